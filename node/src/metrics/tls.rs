//! Families of certificates and handshakes, by port.
//!
//! Must not know: who updates them.

use crate::tls::{PortName, Side};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use quorate_api::tls::Reason;

families! {
    /// Certificates and handshakes of all ports.
    pub struct TlsMetrics {
        expiry: gauge_vec "quorate_tls_certificate_expiry_timestamp_seconds" ["port"]
            "When the certificate of a port expires, in seconds since 1970.";
        handshakes: counter_vec "quorate_tls_handshakes_total" ["port", "side"]
            "TLS handshakes that succeeded, by who began.";
        failures: counter_vec "quorate_tls_handshake_failures_total" ["port", "side", "reason"]
            "TLS handshakes that failed, by who began and why.";
        reloads: counter_vec "quorate_tls_reloads_total" ["port", "result"]
            "Certificate files read again after a change.";
    }
}

/// Those of one port, resolved where they are few.
pub struct TlsPortMetrics {
    port: PortName,
    /// When our certificate expires, seconds since 1970.
    pub expiry: IntGauge,
    /// Certificate files that were read again and taken.
    pub reloaded: IntCounter,
    /// Certificate files that were read again and not taken.
    pub reload_failed: IntCounter,
    accepted: IntCounter,
    dialled: IntCounter,
    failures: IntCounterVec,
}

impl TlsMetrics {
    /// The counters of one port.
    #[must_use]
    pub fn port(&self, port: PortName) -> TlsPortMetrics {
        let name = port.label();
        let handshakes = |side: Side| self.handshakes.with_label_values(&[name, side.label()]);
        let reloads = |result| self.reloads.with_label_values(&[name, result]);
        TlsPortMetrics {
            port,
            expiry: self.expiry.with_label_values(&[name]),
            reloaded: reloads("ok"),
            reload_failed: reloads("failed"),
            accepted: handshakes(Side::Accept),
            dialled: handshakes(Side::Dial),
            failures: self.failures.clone(),
        }
    }
}

impl TlsPortMetrics {
    /// The counter of handshakes that succeeded.
    #[must_use]
    pub fn succeeded(&self, side: Side) -> &IntCounter {
        match side {
            Side::Accept => &self.accepted,
            Side::Dial => &self.dialled,
        }
    }

    /// The counter of handshakes that failed for this reason.
    #[must_use]
    pub fn failed(&self, side: Side, reason: Reason) -> IntCounter {
        let labels = [self.port.label(), side.label(), reason.label()];
        self.failures.with_label_values(&labels)
    }
}
