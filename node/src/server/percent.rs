//! Percent-encoding of paths and queries.
//!
//! Must not know: what the parts mean. Keys are arbitrary bytes, so decoding gives bytes.

/// A percent sign that two hexadecimal digits do not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where in the encoded text, in bytes.
    pub(super) position: usize,
}

/// Decodes a path, in which `+` is itself.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Malformed> {
    decode_with(text, false)
}

/// Splits and decodes a query, in which `+` is a space. Values stay bytes; names are compared with
/// ASCII names, so a name that is not UTF-8 becomes one that matches nothing.
pub(super) fn query(text: &str) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
    let mut pairs = Vec::new();
    let mut position = 0;
    for part in text.split('&') {
        if !part.is_empty() {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let at = |offset: usize| {
                move |bad: Malformed| Malformed {
                    position: offset + bad.position,
                }
            };
            let name_bytes = decode_with(name, true).map_err(at(position))?;
            let value = decode_with(value, true).map_err(at(position + name.len() + 1))?;
            pairs.push((String::from_utf8_lossy(&name_bytes).into_owned(), value));
        }
        position += part.len() + 1;
    }
    Ok(pairs)
}

fn decode_with(text: &str, plus_is_space: bool) -> Result<Vec<u8>, Malformed> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        match byte {
            b'%' => {
                let digit = |offset| bytes.get(position + offset).copied().and_then(hex);
                let (Some(high), Some(low)) = (digit(1), digit(2)) else {
                    return Err(Malformed { position });
                };
                decoded.push(high << 4 | low);
                position += 3;
                continue;
            }
            b'+' if plus_is_space => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        position += 1;
    }
    Ok(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_through_a_path() {
        assert_eq!(decode("a%2Fb+c%ff%00").unwrap(), b"a/b+c\xff\0");
        assert_eq!(decode("").unwrap(), b"");
    }

    #[test]
    fn a_broken_escape_is_located() {
        for (text, position) in [("%", 0), ("ab%4", 2), ("%zz", 0), ("a%2", 1), ("%%41", 0)] {
            assert_eq!(decode(text), Err(Malformed { position }), "{text}");
        }
        assert_eq!(query("a=1&b=%x"), Err(Malformed { position: 6 }));
    }

    #[test]
    fn a_query_is_split_before_it_is_decoded() {
        let pairs = query("prefix=a%26b+c&limit=3&&verbose").unwrap();
        let expected = [
            ("prefix".to_owned(), b"a&b c".to_vec()),
            ("limit".to_owned(), b"3".to_vec()),
            ("verbose".to_owned(), Vec::new()),
        ];
        assert_eq!(pairs, expected);
    }
}
