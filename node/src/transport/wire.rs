//! Fixed-width little-endian primitives of the peer protocol, bounded on the way in.
//!
//! Must not know: which message the bytes belong to.

use std::sync::Arc;

/// Why bytes are not a message. The text is fixed, so it may be logged as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("the bytes end within {0}")]
    Truncated(&'static str),
    /// Bytes are left over after the last field.
    #[error("{0} bytes are left over after the last field")]
    TrailingBytes(usize),
    /// A number that names no known variant.
    #[error("{what} has no variant {value}")]
    UnknownVariant {
        /// The field.
        what: &'static str,
        /// What was found.
        value: u64,
    },
    /// A count or length beyond its bound.
    #[error("{what} is {value}, at most {max} is allowed")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// What was claimed.
        value: u64,
        /// The bound.
        max: u64,
    },
    /// Text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
}

/// Appends primitives to a buffer.
pub(super) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_bytes(&mut self, value: &[u8]);
    fn put_len(&mut self, len: usize);

    fn put_bool(&mut self, value: bool) {
        self.put_u8(u8::from(value));
    }

    fn put_str(&mut self, value: &str) {
        self.put_bytes(value.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_bytes(&mut self, value: &[u8]) {
        self.put_len(value.len());
        self.extend_from_slice(value);
    }

    fn put_len(&mut self, len: usize) {
        self.put_u32(u32::try_from(len).expect("a frame is far smaller than 4 GiB"));
    }
}

/// Takes primitives from the front of a slice; never allocates more than the slice holds.
pub(super) struct Take<'a>(pub(super) &'a [u8]);

impl<'a> Take<'a> {
    pub(super) fn raw(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated(what))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated(what))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn id16(&mut self, what: &'static str) -> Result<[u8; 16], DecodeError> {
        self.array(what)
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::UnknownVariant {
                what,
                value: u64::from(other),
            }),
        }
    }

    /// A count of items of at least `item_bytes_min` bytes each: checked against what is left, so
    /// that a hostile count allocates nothing.
    pub(super) fn count(
        &mut self,
        item_bytes_min: usize,
        what: &'static str,
    ) -> Result<usize, DecodeError> {
        let count = self.u32(what)? as usize;
        let max = self.0.len() / item_bytes_min.max(1);
        if count > max {
            return Err(DecodeError::TooLarge {
                what,
                value: count as u64,
                max: max as u64,
            });
        }
        Ok(count)
    }

    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u32(what)? as usize;
        self.raw(len, what)
    }

    pub(super) fn shared(&mut self, what: &'static str) -> Result<Arc<[u8]>, DecodeError> {
        self.bytes(what).map(Arc::from)
    }

    pub(super) fn string(
        &mut self,
        len_max: usize,
        what: &'static str,
    ) -> Result<String, DecodeError> {
        let bytes = self.bytes(what)?;
        if bytes.len() > len_max {
            return Err(DecodeError::TooLarge {
                what,
                value: bytes.len() as u64,
                max: len_max as u64,
            });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8(what))?;
        Ok(text.to_owned())
    }

    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes(self.0.len()))
        }
    }
}
