//! For whom a certificate is made out.
//!
//! Must not know: keys, Secrets.

/// What an authority is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Members among themselves, and the admin service.
    Peer,
    /// The port of clients.
    Client,
}

impl Use {
    /// As it appears in names of Secrets and in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Client => "client",
        }
    }
}

/// Who holds a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Every member, on its peer and admin ports, in both directions.
    Member,
    /// Every member, on its client port.
    ClientPort,
    /// The operator, when it calls the admin service.
    Operator,
    /// Applications, when they call the client port.
    Client,
}

/// The names a cluster is reached by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNames {
    /// The object's name.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// The domain of the Kubernetes cluster; `None` when it is not known.
    pub domain: Option<String>,
    /// The headless Service of the members.
    pub peer_service: String,
    /// The Services that clients use.
    pub client_services: Vec<String>,
}

impl ClusterNames {
    /// The common name of a holder: what `--admin-cert-allowed-cn` and auth compare.
    #[must_use]
    pub fn common_name(&self, holder: Holder) -> String {
        let (cluster, namespace) = (&self.cluster, &self.namespace);
        match holder {
            Holder::Member => format!("{cluster}.{namespace}.member"),
            Holder::ClientPort => format!("{cluster}.{namespace}.client-port"),
            Holder::Operator => format!("{cluster}.{namespace}.operator"),
            Holder::Client => format!("{cluster}.{namespace}.client"),
        }
    }

    /// The DNS names and addresses of a holder, in order and without repetition.
    ///
    /// Members are named by a wildcard, so that scaling needs no new certificate. Nothing is
    /// looked up backwards: an address that a pod has today is not among them.
    #[must_use]
    pub fn alternatives(&self, holder: Holder) -> Vec<String> {
        let mut names = Vec::new();
        match holder {
            Holder::Member => self.members(&mut names),
            Holder::ClientPort => {
                for service in &self.client_services {
                    names.extend(self.forms(service));
                }
                // Clients that know every member, and forwarded ports.
                self.members(&mut names);
            }
            // They call and are never called.
            Holder::Operator | Holder::Client => {}
        }
        names
    }

    fn members(&self, names: &mut Vec<String>) {
        for form in self.forms(&self.peer_service) {
            names.push(format!("*.{form}"));
        }
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    }

    /// A Service, from its shortest name to its longest. The bare name is left out: it would be a
    /// wildcard over a top-level domain, and in another namespace another Service.
    fn forms(&self, service: &str) -> Vec<String> {
        let namespace = &self.namespace;
        let mut forms = vec![
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
        ];
        if let Some(domain) = &self.domain {
            forms.push(format!("{service}.{namespace}.svc.{domain}"));
        }
        forms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(domain: Option<&str>) -> ClusterNames {
        ClusterNames {
            cluster: "orders".to_owned(),
            namespace: "data".to_owned(),
            domain: domain.map(str::to_owned),
            peer_service: "orders-peers".to_owned(),
            client_services: vec!["orders-client".to_owned()],
        }
    }

    #[test]
    fn members_are_named_by_a_wildcard_in_every_form_they_are_dialled_by() {
        assert_eq!(
            names(Some("cluster.local")).alternatives(Holder::Member),
            [
                "*.orders-peers.data",
                "*.orders-peers.data.svc",
                "*.orders-peers.data.svc.cluster.local",
                "localhost",
                "127.0.0.1",
                "::1"
            ]
        );
        assert!(
            !names(None)
                .alternatives(Holder::Member)
                .iter()
                .any(|name| name.contains("local."))
        );
    }

    #[test]
    fn the_client_port_is_named_by_its_services_and_by_its_members() {
        let found = names(Some("example.org")).alternatives(Holder::ClientPort);
        for name in [
            "orders-client.data.svc.example.org",
            "*.orders-peers.data.svc",
            "localhost",
        ] {
            assert!(
                found.iter().any(|found| found == name),
                "{name} in {found:?}"
            );
        }
    }
}
