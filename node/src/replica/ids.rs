//! Identities that etcd derives from URLs, names and time; existing tools compare them literally.
//!
//! Pure functions of their arguments. Must not know: where the arguments come from.

use sha1::{Digest, Sha1};

/// ID of an initial member: SHA-1 over its sorted peer URLs and the cluster token.
#[must_use]
pub fn initial_member_id(peer_urls: &[String], token: &str) -> u64 {
    derive(peer_urls, token.as_bytes())
}

/// ID of a member added to a running cluster: SHA-1 over its sorted peer URLs and the time in
/// seconds, in decimal.
#[must_use]
pub fn added_member_id(peer_urls: &[String], unix_ms: u64) -> u64 {
    derive(peer_urls, (unix_ms / 1000).to_string().as_bytes())
}

/// ID of a cluster: SHA-1 over the IDs of its initial members, sorted.
#[must_use]
pub fn cluster_id(initial_members: &[u64]) -> u64 {
    let mut sorted = initial_members.to_vec();
    sorted.sort_unstable();
    let bytes: Vec<u8> = sorted.iter().flat_map(|id| id.to_be_bytes()).collect();
    head(&bytes)
}

/// UUID of a cluster formed by a static start, over its first entry and the cluster token. Every
/// initial member derives the same one; nodes of another list or token are refused as strangers.
#[must_use]
pub fn static_cluster_uuid(first_entry: &[u8], token: &str) -> [u8; 16] {
    let mut bytes = b"quorate static start\n".to_vec();
    bytes.extend_from_slice(token.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(first_entry);
    let digest = Sha1::digest(&bytes);
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid
}

/// First name for what one life of a member asks of others. A life has 2^40 of them before the next
/// one's begin; the highest bit is left to the caller.
#[must_use]
pub const fn first_counter(incarnation: u64) -> u64 {
    (incarnation & 0x3f_ffff) << 40
}

fn derive(peer_urls: &[String], suffix: &[u8]) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut bytes = sorted.concat().into_bytes();
    bytes.extend_from_slice(suffix);
    head(&bytes)
}

fn head(bytes: &[u8]) -> u64 {
    let digest = Sha1::digest(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The values that etcd prints for these flags; its users compare them literally.
    #[test]
    fn ids_are_those_of_etcd() {
        let id = |url: &str, token| initial_member_id(&[url.to_owned()], token);
        assert_eq!(
            id("http://localhost:2380", "etcd-cluster"),
            0x8e9e_05c5_2164_694d
        );
        assert_eq!(cluster_id(&[0x8e9e_05c5_2164_694d]), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn names_of_two_lives_differ_and_leave_the_highest_bit() {
        assert!(first_counter(8) - first_counter(7) > 1 << 39);
        assert!(first_counter(u64::MAX) + (1 << 40) < 1 << 63);
    }

    #[test]
    fn order_of_urls_and_members_does_not_matter() {
        let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let reversed = [urls[1].clone(), urls[0].clone()];
        assert_eq!(
            initial_member_id(&urls, "t"),
            initial_member_id(&reversed, "t")
        );
        assert_eq!(cluster_id(&[1, 2, 3]), cluster_id(&[3, 1, 2]));
        assert_ne!(
            static_cluster_uuid(&[1, 2], "t"),
            static_cluster_uuid(&[1, 2], "u")
        );
    }
}
