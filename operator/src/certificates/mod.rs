//! Certificates that the operator manages itself: whom they name, how they are issued, and when
//! they change.
//!
//! `names` says for whom, `issue` makes keys and signatures, `rotation` decides, `request` reads
//! what a human asks for, `view` is what a pass saw and what people are told. Whoever wires this to
//! Secrets reads facts, asks [`next`], carries out the one step it names, and comes again: a crash
//! between any two steps resumes from what the Secrets and the members show.
//!
//! One authority signs what members show each other and the admin service (`Use::Peer`), another
//! what clients see (`Use::Client`), so that a certificate for one is worth nothing at the other.
//! Must not know: Kubernetes, files, the clock: the time is an argument. Keys are drawn in `issue`
//! and nowhere else.

mod issue;
mod names;
mod request;
mod rotation;
mod view;

pub use issue::{Authority, IssueError, Issued};
pub use names::{ClusterNames, Holder, Use};
pub use request::Asked;
pub use rotation::{
    AuthorityFacts, Facts, LeafFacts, MemberFacts, Phase, Request, Signer, Step, Trust, next,
    renew_at_s,
};
pub use view::{Brought, BroughtLeaf, Encryption, Expiry, Problem, UseView, Verdict};
