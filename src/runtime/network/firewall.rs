//! Walls around the interfaces of steps: one table of packet filter rules, replaced as a whole, recognised by its name.
//!
//! A table of our own can only forbid: what another table drops stays dropped. Where the host forwards nothing by
//! itself (as with Docker's rules present), two rules in the shared chain let our interfaces through to ours.

use std::io;
use std::process::{Command, Stdio};

use ipnet::{IpNet, Ipv4Net};

use super::Doors;
use super::netlink::{Message, Socket};

const NFTABLES: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = NFTABLES;
const DELETE_TABLE: u16 = NFTABLES | 2;
const GET_TABLE: u16 = NFTABLES | 1;
const NEW_CHAIN: u16 = NFTABLES | 3;
const NEW_RULE: u16 = NFTABLES | 6;
/// Rules for both versions of the internet protocol.
const INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

const LOCAL_IN: u32 = 1;
const FORWARD: u32 = 2;
const POST_ROUTING: u32 = 4;

/// What is loaded and compared.
mod meta {
    pub const IIFNAME: u32 = 6;
    pub const OIFNAME: u32 = 7;
    pub const NFPROTO: u32 = 15;
    pub const L4PROTO: u32 = 16;
    pub const OIFKIND: u32 = 27;
}

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// Sent on by a rule that publishes a port.
const PUBLISHED: u32 = 1 << 5;

/// What a rule does with a packet.
#[derive(Clone, Copy)]
enum Verdict {
    Accept,
    Drop,
    /// Tells the sender, so that a step does not wait for what cannot come.
    Reject,
    Masquerade,
}

/// Puts one expression into a message.
type Expression = Box<dyn Fn(&mut Message)>;

/// One rule that is being put together: expressions in their order.
#[derive(Default)]
struct Rule(Vec<Expression>);

impl Rule {
    fn expression(mut self, name: &'static str, fill: impl Fn(&mut Message) + 'static) -> Rule {
        self.0.push(Box::new(move |message| {
            message.nest(1, |element| {
                element.text(1, name).nest(2, |data| fill(data));
            });
        }));
        self
    }

    fn compare(self, operator: u32, value: Vec<u8>) -> Rule {
        self.expression("cmp", move |data| {
            data.number(1, 1).number(2, operator).nest(3, |inner| {
                inner.put(1, &value);
            });
        })
    }

    fn meta(self, key: u32, operator: u32, value: &[u8]) -> Rule {
        self.expression("meta", move |data| {
            data.number(1, 1).number(2, key);
        })
        .compare(operator, value.to_vec())
    }

    /// An interface whose name begins so, or not.
    fn interface(self, key: u32, operator: u32, prefix: &str) -> Rule {
        self.meta(key, operator, prefix.as_bytes())
    }

    /// The whole of a name or word, which the kernel pads to 16 bytes.
    fn word(self, key: u32, word: &str) -> Rule {
        let mut padded = word.as_bytes().to_vec();
        padded.resize(16, 0);
        self.meta(key, EQUAL, &padded)
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Rule {
        self.expression("payload", move |data| {
            data.number(1, 1).number(2, base).number(3, offset).number(4, length);
        })
    }

    fn masked(self, mask: Vec<u8>) -> Rule {
        let zero = vec![0; mask.len()];
        self.expression("bitwise", move |data| {
            data.number(1, 1).number(2, 1).number(3, mask.len() as u32);
            data.nest(4, |inner| {
                inner.put(1, &mask);
            });
            data.nest(5, |inner| {
                inner.put(1, &zero);
            });
        })
    }

    fn within(self, net: &IpNet, source: bool) -> Rule {
        let (protocol, offset, address, mask) = match net {
            IpNet::V4(net) => {
                let offset = if source { 12 } else { 16 };
                (NFPROTO_IPV4, offset, net.network().octets().to_vec(), net.netmask().octets().to_vec())
            }
            IpNet::V6(net) => {
                let offset = if source { 8 } else { 24 };
                (NFPROTO_IPV6, offset, net.network().octets().to_vec(), net.netmask().octets().to_vec())
            }
        };
        self.meta(meta::NFPROTO, EQUAL, &[protocol])
            .payload(1, offset, address.len() as u32)
            .masked(mask)
            .compare(EQUAL, address)
    }

    fn connection(self, key: u32, bits: u32) -> Rule {
        self.expression("ct", move |data| {
            data.number(1, 1).number(2, key);
        })
        .masked(bits.to_ne_bytes().to_vec())
        .compare(NOT_EQUAL, vec![0; 4])
    }

    fn port(self, protocol: i32, port: u16) -> Rule {
        self.meta(meta::L4PROTO, EQUAL, &[protocol as u8]).payload(2, 2, 2).compare(EQUAL, port.to_be_bytes().to_vec())
    }

    fn then(self, verdict: Verdict) -> Rule {
        let code = match verdict {
            Verdict::Accept => 1,
            Verdict::Drop => 0,
            Verdict::Reject => {
                return self.expression("reject", |data| {
                    // Whatever the protocol: administratively prohibited.
                    data.number(1, 2).put(2, &[3]);
                });
            }
            Verdict::Masquerade => return self.expression("masq", |_| {}),
        };
        self.expression("immediate", move |data| {
            data.number(1, 0).nest(2, |inner| {
                inner.nest(2, |verdict| {
                    verdict.number(1, code);
                });
            });
        })
    }
}

fn from(prefix: &str) -> Rule {
    Rule::default().interface(meta::IIFNAME, EQUAL, prefix)
}

fn from_elsewhere(prefix: &str) -> Rule {
    Rule::default().interface(meta::IIFNAME, NOT_EQUAL, prefix)
}

fn to(prefix: &str) -> Rule {
    Rule::default().interface(meta::OIFNAME, EQUAL, prefix)
}

/// What the walls are to be.
#[derive(Debug, Clone)]
pub struct Walls {
    /// The table, ours alone.
    pub table: String,
    /// How the names of the steps' interfaces begin.
    pub prefix: String,
    /// What no step may reach.
    pub deny: Vec<IpNet>,
    /// Whether steps may reach everything that listens on this host.
    pub allow_host: bool,
    /// What they may reach here in any case: the server itself.
    pub doors: Doors,
    /// For interfaces that we make ourselves: their addresses and the way out.
    pub leased: Option<(Ipv4Net, String)>,
}

impl Walls {
    /// Whether they could be put up: does it under another name, for interfaces that nobody has, and undoes it in the
    /// same step, so that nothing of it is ever there.
    pub fn try_out(&self) -> io::Result<()> {
        let walls = Walls { prefix: "ws-nobody-".to_owned(), table: format!("{}-try", self.table), ..self.clone() };
        let mut batch = walls.messages();
        batch.push(walls.table_message(DELETE_TABLE));
        send(batch)
    }

    /// Puts them up, in place of those that were there, in one step.
    pub fn raise(&self) -> io::Result<()> {
        self.stand()?;
        if self.leased.is_some() {
            self.admit();
        }
        Ok(())
    }

    /// Puts them up again if somebody has cleared the host's rules; tells whether it was so. Costs a question to the
    /// kernel where they stand.
    pub fn restore(&self) -> io::Result<bool> {
        if table_exists(&self.table) {
            return Ok(false);
        }
        self.raise()?;
        tracing::warn!(table = self.table, "the walls around steps had been taken down on this host and are up again");
        Ok(true)
    }

    /// As [`Walls::restore`], and lets our interfaces through where the host has come to drop what it forwards.
    pub fn keep_up(&self) -> io::Result<()> {
        if !self.restore()? && self.leased.is_some() {
            self.admit();
        }
        Ok(())
    }

    fn stand(&self) -> io::Result<()> {
        send(self.messages())
    }

    /// What makes the table anew.
    fn messages(&self) -> Vec<Message> {
        let mut batch = vec![self.table_message(NEW_TABLE), self.table_message(DELETE_TABLE)];
        batch.push(self.table_message(NEW_TABLE));
        self.chain(&mut batch, "input", "filter", (LOCAL_IN, -10), self.input());
        self.chain(&mut batch, "forward", "filter", (FORWARD, -10), self.forward());
        if let Some((pool, _)) = &self.leased {
            let out = Rule::default().within(&IpNet::V4(*pool), true);
            let out = out.interface(meta::OIFNAME, NOT_EQUAL, &self.prefix).then(Verdict::Masquerade);
            self.chain(&mut batch, "postrouting", "nat", (POST_ROUTING, 100), vec![out]);
        }
        batch
    }

    /// Takes them down; absent is fine.
    pub fn lower(&self) -> io::Result<()> {
        for (_, rule) in self.admissions() {
            while iptables("-D", &rule) {}
        }
        remove_table(&self.table)
    }

    fn input(&self) -> Vec<Rule> {
        // First, because all that the host receives comes by here.
        let mut rules = vec![from_elsewhere(&self.prefix).then(Verdict::Accept)];
        rules.extend(self.deny.iter().map(|net| from(&self.prefix).within(net, false).then(Verdict::Reject)));
        if self.allow_host {
            return rules;
        }
        rules.push(from(&self.prefix).connection(CT_STATE, ESTABLISHED_OR_RELATED).then(Verdict::Accept));
        rules.push(from(&self.prefix).meta(meta::L4PROTO, EQUAL, &[libc::IPPROTO_ICMP as u8]).then(Verdict::Accept));
        rules.push(from(&self.prefix).port(libc::IPPROTO_UDP, 53).then(Verdict::Accept));
        rules.push(from(&self.prefix).port(libc::IPPROTO_TCP, 53).then(Verdict::Accept));
        for port in self.doors.open() {
            rules.push(from(&self.prefix).port(libc::IPPROTO_TCP, port).then(Verdict::Accept));
        }
        rules.push(from(&self.prefix).then(Verdict::Reject));
        rules
    }

    fn forward(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> =
            self.deny.iter().map(|net| from(&self.prefix).within(net, false).then(Verdict::Reject)).collect();
        let Some((pool, uplink)) = &self.leased else { return rules };
        // Nobody speaks under another's address.
        rules.push(from(&self.prefix).meta(meta::NFPROTO, EQUAL, &[NFPROTO_IPV6]).then(Verdict::Drop));
        rules.push(from(&self.prefix).connection(CT_STATE, ESTABLISHED_OR_RELATED).then(Verdict::Accept));
        rules.push(from(&self.prefix).within(&IpNet::V4(*pool), false).then(Verdict::Reject));
        if !uplink.is_empty() {
            rules.push(from(&self.prefix).word(meta::OIFNAME, uplink).then(Verdict::Accept));
        }
        rules.push(from(&self.prefix).connection(CT_STATUS, PUBLISHED).then(Verdict::Accept));
        for kind in ["bridge", "veth"] {
            // Containers and machines of others on this host.
            rules.push(from(&self.prefix).word(meta::OIFKIND, kind).then(Verdict::Reject));
        }
        rules.push(to(&self.prefix).connection(CT_STATE, ESTABLISHED_OR_RELATED).then(Verdict::Accept));
        rules.push(to(&self.prefix).then(Verdict::Drop));
        rules
    }

    fn table_message(&self, kind: u16) -> Message {
        let flags = if kind == NEW_TABLE { libc::NLM_F_CREATE } else { 0 };
        let mut message = Message::new(kind, flags, &[INET, 0, 0, 0]);
        message.text(1, &self.table);
        message
    }

    fn chain(&self, batch: &mut Vec<Message>, name: &str, kind: &str, place: (u32, i32), rules: Vec<Rule>) {
        let mut message = Message::new(NEW_CHAIN, libc::NLM_F_CREATE, &[INET, 0, 0, 0]);
        message.text(1, &self.table).text(3, name);
        message.nest(4, |hook| {
            hook.number(1, place.0).number(2, place.1 as u32);
        });
        message.text(7, kind);
        batch.push(message);
        for rule in rules {
            let mut message = Message::new(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, &[INET, 0, 0, 0]);
            message.text(1, &self.table).text(2, name);
            message.nest(4, |expressions| rule.0.iter().for_each(|expression| expression(expressions)));
            batch.push(message);
        }
    }

    /// Lets our interfaces through where the host drops what it would forward. Not an error where there is no
    /// `iptables`: then nobody uses it to drop.
    fn admit(&self) {
        if policy_of_forward().is_none_or(|policy| policy == "ACCEPT") {
            return;
        }
        for (place, rule) in self.admissions() {
            if !iptables("-C", &rule) {
                let mut rule = rule;
                rule.insert(1, place.to_owned());
                iptables("-I", &rule);
            }
        }
    }

    fn admissions(&self) -> [(&'static str, Vec<String>); 2] {
        ["-i", "-o"].map(|direction| {
            let interface = format!("{}+", self.prefix);
            let words = ["FORWARD", direction, &interface, "-m", "comment", "--comment", &self.table, "-j", "ACCEPT"];
            ("1", words.map(str::to_owned).to_vec())
        })
    }
}

fn mark(kind: u16) -> Message {
    let subsystem = (NFTABLES >> 8).to_be_bytes();
    Message::new(kind, 0, &[0, 0, subsystem[0], subsystem[1]]).unanswered()
}

/// All of it, or nothing.
fn send(messages: Vec<Message>) -> io::Result<()> {
    let batch = [mark(BATCH_BEGIN)].into_iter().chain(messages).chain([mark(BATCH_END)]).collect();
    Socket::open(libc::NETLINK_NETFILTER)?.send(batch).map_err(|(_, error)| error)
}

/// Removes a table; absent is fine.
pub fn remove_table(name: &str) -> io::Result<()> {
    if !table_exists(name) {
        return Ok(());
    }
    let mut delete = Message::new(DELETE_TABLE, 0, &[INET, 0, 0, 0]);
    delete.text(1, name);
    send(vec![delete])
}

/// Whether there is such a table.
pub fn table_exists(name: &str) -> bool {
    let mut get = Message::new(GET_TABLE, 0, &[INET, 0, 0, 0]);
    get.text(1, name);
    Socket::open(libc::NETLINK_NETFILTER).is_ok_and(|socket| socket.ask(get).is_ok())
}

/// What happens to forwarded packets that no rule of the shared chain is about; `None` where nobody uses it.
fn policy_of_forward() -> Option<String> {
    let output = Command::new("iptables").args(["-w", "5", "-S", "FORWARD"]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("-P FORWARD ")).map(|policy| policy.trim().to_owned())
}

fn iptables(action: &str, rule: &[String]) -> bool {
    let mut command = Command::new("iptables");
    command.args(["-w", "5", action]).args(rule).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
