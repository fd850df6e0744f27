//! Who a process runs as: `/etc/passwd` and `/etc/group` of the container, read by us, since a static binary must
//! not load the C library's name services.

/// The ids and home of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Name, or the id where it has none.
    pub name: String,
    /// Home directory.
    pub home: String,
}

/// Finds `user` (`name`, `uid`, `name:group`, `uid:gid`; root where `None`) in the texts of the two files.
///
/// The error is worded as Concourse words it.
pub fn find(user: Option<&str>, passwd: &str, group: &str) -> Result<Account, String> {
    let user = user.filter(|u| !u.is_empty()).unwrap_or("root");
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let mut account = account(user, passwd)?;
    if let Some(wanted) = wanted_group {
        account.gid = match (entries(group).find(|g| g[0] == wanted), wanted.parse()) {
            (Some(fields), _) => number(&fields, 2).ok_or_else(|| no_group(wanted))?,
            (None, Ok(gid)) => gid,
            (None, Err(_)) => return Err(no_group(wanted)),
        };
    }
    Ok(account)
}

fn account(user: &str, passwd: &str) -> Result<Account, String> {
    let uid = user.parse::<u32>().ok();
    let found = entries(passwd).find(|f| f[0] == user).or_else(|| entries(passwd).find(|f| uid == number(f, 2)));
    if let Some(fields) = found
        && let Some(uid) = number(&fields, 2)
    {
        let home = fields.get(5).copied().filter(|h| !h.is_empty()).unwrap_or("/");
        return Ok(Account { uid, gid: number(&fields, 3).unwrap_or(0), name: fields[0].into(), home: home.into() });
    }
    match (user, uid) {
        // An image without a passwd file has a root all the same.
        ("root", _) | (_, Some(0)) => Ok(Account { uid: 0, gid: 0, name: "root".into(), home: "/root".into() }),
        (_, Some(uid)) => Ok(Account { uid, gid: 0, name: user.into(), home: "/".into() }),
        _ => Err(format!("lookup user: unable to find user {user}: no matching entries in passwd file")),
    }
}

fn no_group(group: &str) -> String {
    format!("lookup user: unable to find group {group}: no matching entries in group file")
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|l| l.split(':').collect())
}

fn number(fields: &[&str], index: usize) -> Option<u32> {
    fields.get(index)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nci:x:1000:1001::/home/ci:\nbroken\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root\nci:x:1001:\n";

    #[test]
    fn users_are_found() {
        let cases = [
            (None, "0:0 root /root"),
            (Some(""), "0:0 root /root"),
            (Some("nobody"), "65534:65534 nobody /"),
            (Some("ci"), "1000:1001 ci /home/ci"),
            (Some("1000"), "1000:1001 ci /home/ci"),
            (Some("ci:wheel"), "1000:10 ci /home/ci"),
            (Some("ci:77"), "1000:77 ci /home/ci"),
            (Some("4242:17"), "4242:17 4242 /"),
            (Some("zz"), "lookup user: unable to find user zz: no matching entries in passwd file"),
            (Some("ci:zz"), "lookup user: unable to find group zz: no matching entries in group file"),
        ];
        for (user, want) in cases {
            let got =
                find(user, PASSWD, GROUP).map_or_else(|e| e, |a| format!("{}:{} {} {}", a.uid, a.gid, a.name, a.home));
            assert_eq!(got, want, "{user:?}");
        }
    }

    #[test]
    fn an_empty_image_has_root() {
        assert_eq!(find(None, "", "").unwrap().home, "/root");
        assert_eq!(find(Some("0:0"), "", "").unwrap().uid, 0);
    }
}
