//! One step for certificates: a write to a Secret, under the version this pass saw.
//!
//! What a step is for is decided in `crate::certificates`. A Secret is created, or changed with its
//! version; a write that comes late is refused and planned again. What applications are given is
//! written before what members are given: when that is interrupted, the step is still due.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use serde_json::{Map, Value, json};

use super::super::Error;
use super::super::access::call;
use super::super::apply::merge;
use super::super::names::{FIELD_MANAGER, Names};
use super::super::platform::Kubernetes;
use super::store::{CURRENT, GRACE, Kept, NEXT, PHASE, SINCE, TOKEN, annotation};
use super::view::{CLIENT_GRACE_S, holder};
use super::{BUNDLE, KEY, LEAF, authority_name, cluster_names, credentials_name, leaf_name};
use crate::certificates::{
    Asked, Authority, Holder, IssueError, Issued, Phase, Signer, Step, Trust, Use,
};
use crate::crd::ANNOTATION_ROTATE_CERTIFICATES;
use crate::quantity::duration_ms;
use kube::ResourceExt as _;

/// An authority lives as long as this many leaves.
const AUTHORITY_LEAVES: i64 = 40;

/// A change of one Secret: entries and annotations; `None` takes one out.
#[derive(Default)]
struct Change {
    entries: Vec<(&'static str, Option<String>)>,
    annotations: Vec<(&'static str, String)>,
}

impl Change {
    fn entry(mut self, key: &'static str, text: &str) -> Change {
        self.entries.push((key, Some(text.to_owned())));
        self
    }

    fn without(mut self, key: &'static str) -> Change {
        self.entries.push((key, None));
        self
    }

    fn annotation(mut self, key: &'static str, text: impl Into<String>) -> Change {
        self.annotations.push((key, text.into()));
        self
    }

    fn pair(self, (certificate, key): (&'static str, &'static str), issued: &Issued) -> Change {
        self.entry(certificate, &issued.certificate_pem)
            .entry(key, &issued.key_pem)
    }
}

impl Kubernetes {
    /// Carries out one step.
    pub(in super::super) async fn certify(&self, of: Use, step: &Step) -> Result<(), Error> {
        let sight = self.sight()?;
        let now_s = sight.now_s;
        let kept = sight
            .stock
            .as_ref()
            .and_then(|stock| stock.managed.get(&of));
        let kept = kept.ok_or_else(|| {
            Error::Conflict("the certificates were not read, or are not kept here".to_owned())
        })?;
        let names = &sight.names;
        let spec = &sight.object.spec.tls;
        let duration = match of {
            Use::Peer => &spec.peer.duration,
            Use::Client => &spec.client.duration,
        };
        let life_s = duration_ms(duration).unwrap_or(0) / 1000;
        let authority = (authority_name(names, of), kept.authority_secret.as_ref());
        let asked = sight
            .object
            .annotations()
            .get(ANNOTATION_ROTATE_CERTIFICATES);
        let asked = asked.and_then(|text| Asked::parse(text).ok());
        let phase = |change: Change, phase: Phase| {
            change
                .annotation(PHASE, phase.label())
                .annotation(SINCE, now_s.to_string())
        };
        match step {
            Step::CreateAuthority | Step::CreateNext => {
                let names = cluster_names(names);
                let life_s = life_s.saturating_mul(AUTHORITY_LEAVES);
                let made = Authority::create(&names, of, now_s, life_s).map_err(refused)?;
                let change = match step {
                    Step::CreateNext => Change::default().pair(NEXT, made.kept()),
                    _ => phase(Change::default().pair(CURRENT, made.kept()), Phase::Stable),
                };
                let change = with_request(change, asked.as_ref());
                let change = change.annotation(GRACE, grace_s(kept, asked.as_ref()).to_string());
                self.write(authority, change).await
            }
            Step::Enter(next) => self.write(authority, phase(Change::default(), *next)).await,
            Step::Finish => {
                let next = kept
                    .next
                    .as_ref()
                    .ok_or_else(|| Error::Conflict("there is no next authority".to_owned()))?;
                let change = Change::default().pair(CURRENT, next.kept());
                let change = change.without(NEXT.0).without(NEXT.1);
                self.write(authority, phase(change, Phase::Stable)).await
            }
            Step::WriteBundle(trust) => self.write_bundle(of, kept, *trust).await,
            Step::IssueLeaf(signer) => {
                let signer = match signer {
                    Signer::Current => kept.current.as_ref(),
                    Signer::Next => kept.next.as_ref(),
                };
                let signer = signer
                    .ok_or_else(|| Error::Conflict("there is no authority to sign".to_owned()))?;
                self.issue_leaf(of, kept, signer, (now_s, life_s), asked.as_ref())
                    .await
            }
            Step::Wait { .. } | Step::Rest { .. } => {
                Err(Error::Refused(format!("{} is no effect", step.name())))
            }
        }
    }

    async fn write_bundle(&self, of: Use, kept: &Kept, trust: Trust) -> Result<(), Error> {
        let names = &self.sight()?.names;
        let bundle = match trust {
            Trust::Current => kept.bundle(true, false),
            Trust::Both => kept.bundle(true, true),
            Trust::Next => kept.bundle(false, true),
        };
        let change = || Change::default().entry(BUNDLE, &bundle);
        if of == Use::Client {
            let credentials = (credentials_name(names), kept.credentials_secret.as_ref());
            self.write(credentials, change()).await?;
        }
        let leaf = (leaf_name(names, of), kept.leaf_secret.as_ref());
        self.write(leaf, change()).await
    }

    async fn issue_leaf(
        &self,
        of: Use,
        kept: &Kept,
        signer: &Authority,
        (now_s, life_s): (i64, i64),
        asked: Option<&Asked>,
    ) -> Result<(), Error> {
        let names = &self.sight()?.names;
        let issue = |holder: Holder| {
            let issued = signer.issue(&cluster_names(names), holder, now_s, life_s);
            let issued = issued.map_err(refused)?;
            Ok::<Change, Error>(Change::default().pair((LEAF, KEY), &issued))
        };
        if of == Use::Client {
            let credentials = (credentials_name(names), kept.credentials_secret.as_ref());
            self.write(credentials, issue(Holder::Client)?).await?;
        }
        let leaf = (leaf_name(names, of), kept.leaf_secret.as_ref());
        self.write(leaf, with_request(issue(holder(of))?, asked))
            .await
    }

    async fn write(
        &self,
        (name, live): (String, Option<&Secret>),
        change: Change,
    ) -> Result<(), Error> {
        let secrets = self.secrets();
        let Some(live) = live else {
            let secret = created(&self.sight()?.names, &name, change);
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            let doing = format!("Secret {name} cannot be created");
            return call(&doing, secrets.create(&params, &secret))
                .await
                .map(|_| ());
        };
        let mut data = Map::new();
        for (key, text) in change.entries {
            let bytes = text.map(|text| ByteString(text.into_bytes()));
            data.insert(key.to_owned(), json!(bytes));
        }
        let annotations = change.annotations.into_iter();
        let annotations = annotations.map(|(key, text)| (key.to_owned(), Value::String(text)));
        let body = json!({
            "metadata": {
                "uid": live.metadata.uid,
                "resourceVersion": live.metadata.resource_version,
                "annotations": annotations.collect::<Map<_, _>>(),
            },
            "data": data,
        });
        let doing = format!("Secret {name} cannot be changed");
        merge(&secrets, &name, &body, &doing).await.map(|_| ())
    }
}

fn refused(error: IssueError) -> Error {
    Error::Refused(error.to_string())
}

/// Remembers the request by hand beside what was made, so that no crash makes it twice.
fn with_request(change: Change, asked: Option<&Asked>) -> Change {
    match asked {
        Some(asked) => change.annotation(TOKEN, asked.token.clone()),
        None => change,
    }
}

/// What a request by hand says, while it is not carried out yet.
fn grace_s(kept: &Kept, asked: Option<&Asked>) -> i64 {
    let done = annotation(kept.authority_secret.as_ref(), TOKEN);
    let asked = asked.filter(|asked| done != Some(asked.token.as_str()));
    asked
        .and_then(|asked| asked.grace_s)
        .unwrap_or(CLIENT_GRACE_S)
}

fn created(names: &Names, name: &str, change: Change) -> Secret {
    let entries = change.entries.into_iter();
    let entries =
        entries.filter_map(|(key, text)| Some((key.to_owned(), ByteString(text?.into_bytes()))));
    let annotations = change.annotations.into_iter();
    let annotations = annotations.map(|(key, text)| (key.to_owned(), text));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(names.namespace.clone()),
            labels: Some(names.labels()),
            annotations: Some(annotations.collect()),
            owner_references: Some(vec![names.owner()]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(entries.collect()),
        ..Secret::default()
    }
}
