//! Bytes of a step's output become text: a character split over two reads stays one, anything else that is not
//! UTF-8 becomes U+FFFD (as Concourse's JSON encoding has it), NUL stays.

/// Turns chunks of bytes into text, holding back an unfinished character at the end of a chunk.
#[derive(Debug, Default, Clone)]
pub struct Utf8Chunks {
    held: Vec<u8>,
}

impl Utf8Chunks {
    /// Adds `bytes` and gives all text that is certain.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let keep = unfinished(&self.held);
        let rest = self.held.split_off(self.held.len() - keep);
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held = rest;
        text
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Gives what is held back: the output has ended.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// Length of an unfinished character at the end of `bytes`.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let needs = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if needs > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_split_of_text_gives_the_same_text(text in any::<String>(), cuts in proptest::collection::vec(0usize..64, 0..8)) {
            let bytes = text.as_bytes();
            let (mut chunks, mut out, mut at) = (Utf8Chunks::default(), String::new(), 0);
            for cut in cuts {
                let end = (at + cut).min(bytes.len());
                out.push_str(&chunks.push(&bytes[at..end]));
                at = end;
            }
            out.push_str(&chunks.push(&bytes[at..]));
            out.push_str(&chunks.finish());
            prop_assert_eq!(out, text);
        }
    }

    #[test]
    fn what_is_not_text_becomes_the_replacement_character() {
        let mut chunks = Utf8Chunks::default();
        assert_eq!(chunks.push(b"a\xffb\0"), "a\u{fffd}b\0");
        assert_eq!(chunks.push(b"\xe2\x82"), "");
        assert_eq!(chunks.finish(), "\u{fffd}");
    }
}
