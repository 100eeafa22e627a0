//! Which addresses a slot has: base + 10 per slot, then client, peer, admin.
//!
//! Must not know: what listens there.

use std::net::{Ipv4Addr, SocketAddr};

use crate::ids::Slot;
use crate::platform::members::Addresses;

/// Ports from one slot to the next.
const STRIDE: u16 = 10;

/// More slots than any cluster has members.
pub const SLOTS_MAX: u32 = 16;

/// The addresses of all slots, all of them on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    base: u16,
}

impl Ports {
    /// Slots from this client port on; `None` when the last slot's ports would not fit.
    pub fn from_base(base: u16) -> Option<Ports> {
        let last = u32::from(base) + SLOTS_MAX * u32::from(STRIDE);
        (base > 0 && last <= u32::from(u16::MAX)).then_some(Ports { base })
    }

    /// The client address of slot 0's port, as given.
    pub fn base(self) -> u16 {
        self.base
    }

    /// Where clients reach the slot.
    pub fn client(self, slot: Slot) -> SocketAddr {
        self.at(slot, 0)
    }

    /// Where the other members reach the slot.
    pub fn peer(self, slot: Slot) -> SocketAddr {
        self.at(slot, 1)
    }

    /// Where the slot's admin service is.
    pub fn admin(self, slot: Slot) -> SocketAddr {
        self.at(slot, 2)
    }

    /// The peer URL of the slot.
    pub fn peer_url(self, slot: Slot) -> String {
        format!("http://{}", self.peer(slot))
    }

    /// The slot whose peer URL this is.
    pub fn slot_of_peer_url(self, url: &str) -> Option<Slot> {
        (0..SLOTS_MAX)
            .map(Slot)
            .find(|slot| self.peer_url(*slot) == url)
    }

    fn at(self, slot: Slot, offset: u16) -> SocketAddr {
        // Slots above the maximum are refused before anything is started in them.
        let slot = u16::try_from(slot.0.min(SLOTS_MAX)).expect("the maximum fits");
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base + slot * STRIDE + offset))
    }
}

impl Addresses for Ports {
    fn admin_url(&self, slot: Slot) -> Option<String> {
        Some(format!("http://{}", self.admin(slot)))
    }

    fn peer_url(&self, slot: Slot) -> String {
        Ports::peer_url(*self, slot)
    }

    fn slot_of_peer_url(&self, url: &str) -> Option<Slot> {
        Ports::slot_of_peer_url(*self, url)
    }

    fn server_name(&self, _: Slot) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_three_ports_of_its_own() {
        let ports = Ports::from_base(2379).unwrap();
        assert_eq!(ports.client(Slot(0)).to_string(), "127.0.0.1:2379");
        assert_eq!(ports.peer(Slot(1)).to_string(), "127.0.0.1:2390");
        assert_eq!(ports.admin(Slot(2)).to_string(), "127.0.0.1:2401");
        assert_eq!(
            ports.slot_of_peer_url("http://127.0.0.1:2390"),
            Some(Slot(1))
        );
        assert_eq!(ports.slot_of_peer_url("http://127.0.0.1:2389"), None);
    }

    #[test]
    fn a_base_without_room_for_all_slots_is_refused() {
        assert_eq!(Ports::from_base(0), None);
        assert_eq!(Ports::from_base(65_500), None);
        assert!(Ports::from_base(65_000).is_some());
    }
}
