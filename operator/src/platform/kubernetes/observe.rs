//! The live reads of a pass, and what they say in the planner's words.
//!
//! Nothing comes from a store (H50), and a read that fails is `Unknown` with its reason, never an
//! absence (H8). Reads that do not depend on each other are made at the same time.

use std::collections::BTreeMap;

use futures_util::future::{join_all, join4};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::access::call;
use super::apply::{is_ours, set_id};
use super::drift;
use super::names::{Names, PodAddresses};
use super::objects::{self, INPUTS, Inputs, Object, Set};
use super::platform::{Kubernetes, Sight};
use super::tls::{self, Caller, Stock};
use super::unused::Pods;
use super::{Error, lives};
use crate::certificates::{Asked, Encryption};
use crate::crd::{
    ANNOTATION_RESTARTED_AT, ANNOTATION_ROTATE_CERTIFICATES, FINALIZER, KvCluster, TlsMode,
};
use crate::ids::{ObjectUid, Slot, UnixMs};
use crate::observed::{
    LifeState, LifeView, MembershipView, NodeState, NodeView, ObjectView, Observed, Role, Seen,
    SlotsView,
};
use crate::planted::Bug;
use crate::platform::calls::leader_slot;
use crate::platform::doors::{entropy, now};
use crate::platform::members::{Answer, Members, Security};
use crate::quantity;
use crate::reconcile::Observation;
use crate::record::{BootstrapState, Record};
use crate::validate::validate;

type Nodes = BTreeMap<Slot, Seen<NodeView>>;

impl Kubernetes {
    pub(super) async fn look(&mut self) -> Result<Option<Observation>, Error> {
        self.sight = None;
        let doing = format!("KvCluster {}/{} cannot be read", self.namespace, self.name);
        let objects = self.objects();
        let Some(newest) = call(&doing, objects.get_opt(&self.name)).await? else {
            return Ok(None);
        };
        let stored = newest.status.clone().unwrap_or_default();
        let record =
            Record::from_status(&stored).map_err(|error| Error::Unreadable(error.to_string()))?;
        let asked = validate(&newest, &record, self.settings);
        let object = self.with_spec_in_force(newest.clone(), asked.is_ok());
        let now = now();
        let names = self.names(&object);
        let secure = tls::peers_are_secure(&object, &record);
        let (set, pods, claims, stock) = join4(
            self.read_set(&names),
            self.read_pods(&names),
            self.read_claims(&names),
            self.read_stock(&names, &object.spec.tls, secure),
        )
        .await;
        let slots = slots(&set, &pods, &claims, now);
        let security = self.security(&stock, &names, secure, now);
        let nodes = self.ask(&names, &pods, &slots, security).await;
        let encryption = encryption(&stock, (&object, &names), (&record, &slots, &nodes), now);
        let membership = self.read_membership(&record, &nodes).await;
        let voters = voters(&membership, &stored);
        self.before = stored;
        self.sight = Some(Sight {
            names,
            object,
            set,
            claims: claims.known().cloned().unwrap_or_default(),
            rendered: Vec::new(),
            rendered_set: None,
            live: BTreeMap::new(),
            stock: stock.ok(),
            now_s: now.0 / 1000,
        });
        let (objects_due, volumes) = {
            let due = self.compare(&record, voters, &pods).await;
            (due, self.volumes(&claims, &slots).await)
        };
        let sight = self.sight()?;
        let observed = Observed {
            object: object_view(&sight.object),
            record,
            slots,
            volumes,
            nodes,
            membership,
            objects_due,
            encryption,
            now,
            entropy: entropy(),
        };
        Ok(Some(Observation {
            resource: newest,
            asked,
            observed,
        }))
    }

    /// The object as it would be if nobody had made its spec invalid: what is rendered from it, a
    /// spec that is refused must not reach. Before any was valid, nothing is done at all.
    fn with_spec_in_force(&mut self, mut object: KvCluster, is_valid: bool) -> KvCluster {
        if is_valid {
            self.in_force = Some(object.spec.clone());
        } else if let Some(spec) = &self.in_force
            && !Bug::RefusedSpecRendered.lives()
        {
            object.spec = spec.clone();
        }
        object
    }

    fn names(&self, object: &KvCluster) -> Names {
        Names {
            namespace: self.namespace.clone(),
            cluster: self.name.clone(),
            uid: ObjectUid(object.uid().unwrap_or_default()),
            domain: object
                .spec
                .cluster_domain
                .clone()
                .or_else(|| self.domain.clone()),
        }
    }

    /// How members are called in this pass.
    fn security(
        &mut self,
        stock: &Result<Stock, Error>,
        names: &Names,
        secure: bool,
        now: UnixMs,
    ) -> Security {
        match stock {
            _ if !secure => Security::Plain,
            Ok(stock) => Caller::security(&mut self.caller, stock, names, now.0 / 1000),
            Err(error) => Security::Missing(error.to_string()),
        }
    }

    async fn read_set(&self, names: &Names) -> Seen<Option<Value>> {
        let (doing, sets) = ("the StatefulSet cannot be read", self.sets());
        let live = match call(doing, sets.get_opt(&names.cluster)).await {
            Ok(Some(live)) => live,
            Ok(None) => return Seen::Known(None),
            Err(error) => return Seen::Unknown(error.to_string()),
        };
        match serde_json::to_value(&live) {
            Ok(live) if is_ours(&live, &names.uid.0) => Seen::Known(Some(live)),
            Ok(_) => Seen::Unknown(format!(
                "StatefulSet {} exists and was not made for this cluster",
                names.cluster
            )),
            Err(error) => Seen::Unknown(error.to_string()),
        }
    }

    async fn read_pods(&self, names: &Names) -> Pods {
        let params = ListParams::default().labels(&names.selector_text());
        let pods = self.pods();
        match call("the pods cannot be listed", pods.list(&params)).await {
            Ok(list) => {
                let ours = list
                    .into_iter()
                    .filter_map(|pod| Some((names.slot_of_pod(&pod.name_any())?, pod)));
                Seen::Known(ours.collect())
            }
            Err(error) => Seen::Unknown(error.to_string()),
        }
    }

    async fn read_claims(&self, names: &Names) -> Seen<BTreeMap<Slot, PersistentVolumeClaim>> {
        let params = ListParams::default().labels(&names.selector_text());
        let claims = self.claims();
        match call("the claims cannot be listed", claims.list(&params)).await {
            Ok(list) => {
                let ours = list
                    .into_iter()
                    .filter_map(|claim| Some((names.slot_of_claim(&claim.name_any())?, claim)));
                Seen::Known(ours.collect())
            }
            Err(_) if Bug::FailedListIsEmpty.lives() => Seen::Known(BTreeMap::new()),
            Err(error) => Seen::Unknown(error.to_string()),
        }
    }

    /// What the node in each running pod says. An answer under another name is silence: the address
    /// has passed on to somebody else.
    async fn ask(
        &mut self,
        names: &Names,
        pods: &Seen<BTreeMap<Slot, Pod>>,
        slots: &Seen<SlotsView>,
        security: Security,
    ) -> Nodes {
        let (Seen::Known(pods), Seen::Known(slots)) = (pods, slots) else {
            return Nodes::new();
        };
        let running = slots.lives.iter();
        let running = running.filter(|(_, life)| life.state == LifeState::Running);
        let address = |(slot, _): (&Slot, &LifeView)| {
            let ip = pods.get(slot)?.status.as_ref()?.pod_ip.clone()?;
            Some((*slot, ip))
        };
        let ips: BTreeMap<Slot, String> = running.filter_map(address).collect();
        let asked: Vec<Slot> = ips.keys().copied().collect();
        let addresses = PodAddresses {
            names: names.clone(),
            ips,
            secure: !matches!(security, Security::Plain),
        };
        let members = self
            .members
            .get_or_insert_with(|| Members::new(addresses.clone()));
        members.addresses = addresses;
        members.secure(security);
        members.prune(&asked);
        let answers = members.identities(&asked).await;
        let checked = |(slot, answer): (Slot, Seen<Answer>)| {
            let life = slots.lives.get(&slot);
            let node = match answer {
                Seen::Known(answer) if answer.name == names.pod(slot) => Seen::Known(NodeView {
                    ready: life.is_some_and(|life| life.ready),
                    ..answer.node
                }),
                Seen::Known(answer) => Seen::Unknown(format!(
                    "its address is answered by a node called {}",
                    answer.name
                )),
                Seen::Unknown(why) => Seen::Unknown(why),
            };
            (slot, node)
        };
        answers.into_iter().map(checked).collect()
    }

    async fn read_membership(&mut self, record: &Record, nodes: &Nodes) -> Seen<MembershipView> {
        let issued = record
            .bootstrap
            .as_ref()
            .is_some_and(|bootstrap| bootstrap.state >= BootstrapState::Issued);
        let adopting = record.bootstrap.is_none();
        if !issued && !adopting {
            return Seen::Unknown("the cluster is not founded yet".to_owned());
        }
        let joined = |slot: &&Slot| {
            let node = nodes.get(slot).and_then(Seen::known);
            node.is_some_and(|node| matches!(node.state, NodeState::Joined { .. }))
        };
        let mut asked: Vec<Slot> = nodes.keys().filter(joined).copied().collect();
        // The leader answers without asking another member; `false` sorts first.
        asked.sort_by_key(|slot| Some(*slot) != self.leader);
        let Some(members) = &mut self.members else {
            return Seen::Unknown("no member runs that could be asked".to_owned());
        };
        let seen = members.membership(&asked).await;
        if let Some(view) = seen.known() {
            self.leader = leader_slot(view);
        }
        seen
    }

    /// Renders the objects and names those that differ from the live ones.
    async fn compare(&mut self, record: &Record, voters: u32, pods: &Pods) -> Seen<Vec<String>> {
        let Ok(sight) = self.sight() else {
            return Seen::Unknown("nothing was observed yet".to_owned());
        };
        if sight.object.metadata.deletion_timestamp.is_some() {
            return Seen::Known(Vec::new());
        }
        let wanted = sight.object.spec.tls.peer.mode != TlsMode::Disabled;
        if wanted != tls::peers_are_secure(&sight.object, record) {
            // Half of the members would not understand the other half.
            return Seen::Unknown(
                "spec.tls.peer.mode cannot be switched on or off once the cluster exists; set it \
                 back"
                    .to_owned(),
            );
        }
        let annotations = sight.object.annotations();
        let restarted_at = annotations.get(ANNOTATION_RESTARTED_AT);
        let inputs = Inputs {
            names: &sight.names,
            spec: &sight.object.spec,
            epoch: record.epoch_due(),
            voters,
            restarted_at: restarted_at.map(String::as_str),
        };
        let rendered = objects::render(&inputs);
        let (mut rendered, set) =
            match rendered.and_then(|objects| Ok((objects, objects::set(&inputs)?))) {
                Ok(both) => both,
                Err(why) => return Seen::Unknown(format!("they cannot be rendered: {why}")),
            };
        rendered.extend(self.unused_settings(&rendered, pods).await);
        let live = match self.read_objects(&rendered).await {
            Ok(live) => live,
            Err(error) => return Seen::Unknown(error.to_string()),
        };
        let due = self.due(&rendered, &live, &set);
        if let Some(sight) = &mut self.sight {
            sight.rendered = rendered;
            sight.rendered_set = Some(set);
            sight.live = live;
        }
        Seen::Known(due)
    }

    async fn read_objects(&self, rendered: &[Object]) -> Result<BTreeMap<String, Value>, Error> {
        let reads = rendered.iter().map(|object| async move {
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &object.resource);
            let doing = format!("{} cannot be read", object.id);
            let live = call(&doing, api.get_opt(&object.name)).await?;
            Ok::<_, Error>((object.id.clone(), live))
        });
        let mut found = BTreeMap::new();
        for read in join_all(reads).await {
            let (id, live) = read?;
            if let Some(live) = live {
                let live = serde_json::to_value(&live)
                    .map_err(|error| Error::Unreadable(format!("{id}: {error}")))?;
                found.insert(id, live);
            }
        }
        Ok(found)
    }

    /// What differs, in the order of rendering; the set's template comes last.
    fn due(&self, rendered: &[Object], live: &BTreeMap<String, Value>, set: &Set) -> Vec<String> {
        let differs = |object: &&Object| match (&object.body, live.get(&object.id)) {
            (None, live) => live.is_some_and(|live| self.sight_owns(live)),
            (Some(_), None) => true,
            (Some(body), Some(live)) => {
                !self.is_applied(&object.id, &object.digest, live)
                    && !drift::is_as_rendered(live, body, &object.digest)
            }
        };
        let mut due: Vec<String> = rendered
            .iter()
            .filter(differs)
            .map(|object| object.id.clone())
            .collect();
        if let Some(live) = self
            .sight()
            .ok()
            .and_then(|sight| sight.set.known()?.as_ref())
            && self.set_differs(live, set)
        {
            due.push(set_id(&self.name));
        }
        due
    }

    fn sight_owns(&self, live: &Value) -> bool {
        let uid = self.sight().map(|sight| &sight.names.uid.0);
        uid.is_ok_and(|uid| is_ours(live, uid))
    }

    /// The live object is what the API server made of what we applied, and nobody has written
    /// since.
    fn is_applied(&self, id: &str, digest: &str, live: &Value) -> bool {
        let version = live["metadata"]["resourceVersion"].as_str();
        self.applied
            .get(id)
            .is_some_and(|(applied, at)| applied == digest && version == Some(at.as_str()))
    }

    /// Whether the template is to be replaced. The same spec rendered by another version of the
    /// operator is no reason, unless the spec says so (H42).
    fn set_differs(&self, live: &Value, set: &Set) -> bool {
        let adopts = self
            .sight()
            .is_ok_and(|sight| sight.object.spec.update.adopt_operator_changes);
        let same_spec = drift::annotation(live, INPUTS) == Some(&set.inputs);
        let same_template = drift::annotation(live, objects::RENDERED) == Some(&set.digest);
        if same_spec && !same_template && !adopts && !Bug::OperatorChangeRolls.lives() {
            return false;
        }
        if self.is_applied(&set_id(&self.name), &set.digest, live) {
            return false;
        }
        let spec = |field: &str| {
            let (live, ours) = (&live["spec"][field], &set.body["spec"][field]);
            drift::holds(live, ours, false)
        };
        let untouched = spec("template") && spec("updateStrategy");
        !(same_spec && same_template && (untouched || Bug::ForeignTemplateStays.lives()))
    }
}

fn slots(
    set: &Seen<Option<Value>>,
    pods: &Seen<BTreeMap<Slot, Pod>>,
    claims: &Seen<BTreeMap<Slot, PersistentVolumeClaim>>,
    now: UnixMs,
) -> Seen<SlotsView> {
    let (set, pods, claims) = match (set, pods, claims) {
        (Seen::Known(set), Seen::Known(pods), Seen::Known(claims)) => (set, pods, claims),
        (Seen::Unknown(why), _, _) | (_, Seen::Unknown(why), _) | (_, _, Seen::Unknown(why)) => {
            return Seen::Unknown(why.clone());
        }
    };
    let set: Option<StatefulSet> = match set.clone().map(serde_json::from_value).transpose() {
        Ok(set) => set,
        Err(error) => return Seen::Unknown(error.to_string()),
    };
    if let Some(set) = &set
        && set.metadata.deletion_timestamp.is_some()
    {
        return Seen::Unknown("the StatefulSet is being deleted".to_owned());
    }
    let count = set.as_ref().map(|set| {
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
        // Left out, the API server makes it one.
        u32::try_from(replicas.unwrap_or(1)).unwrap_or(0)
    });
    let revision = set.as_ref().and_then(|set| {
        let status = set.status.as_ref()?;
        let current = status.observed_generation == set.metadata.generation;
        status.update_revision.clone().filter(|_| current)
    });
    let volume_bytes = set.as_ref().and_then(|set| {
        let claims = set.spec.as_ref()?.volume_claim_templates.as_ref()?;
        let resources = claims.first()?.spec.as_ref()?.resources.as_ref()?;
        quantity::bytes(&resources.requests.as_ref()?.get("storage")?.0)
    });
    let life = |(slot, pod): (&Slot, &Pod)| {
        let view = lives::view(pod, claims.get(slot), revision.as_deref(), now);
        (*slot, view)
    };
    let lives = pods.iter().map(life).collect();
    Seen::Known(SlotsView {
        count,
        lives,
        revision,
        volume_bytes,
    })
}

/// The certificates as this pass saw them. Slots in which a member lived last count as well: while
/// it is down, it holds up a change of the authority.
fn encryption(
    stock: &Result<Stock, Error>,
    (object, names): (&KvCluster, &Names),
    (record, slots, nodes): (&Record, &Seen<SlotsView>, &Nodes),
    now: UnixMs,
) -> Encryption {
    let stock = match stock {
        Ok(stock) => stock,
        Err(error) => return Encryption::Offered(Seen::Unknown(error.to_string())),
    };
    let lives = slots
        .known()
        .into_iter()
        .flat_map(|slots| slots.lives.keys());
    let asked = object.annotations().get(ANNOTATION_ROTATE_CERTIFICATES);
    let asked = asked.and_then(|text| Asked::parse(text).ok());
    let around = tls::Around {
        names,
        spec: &object.spec.tls,
        asked: asked.as_ref(),
        slots: lives.chain(record.last_members.keys()).copied().collect(),
        nodes,
        now_s: now.0 / 1000,
    };
    Encryption::Offered(Seen::Known(tls::view(stock, &around)))
}

/// Voters as of now, or as last published.
fn voters(membership: &Seen<MembershipView>, stored: &crate::crd::KvClusterStatus) -> u32 {
    match membership {
        Seen::Known(view) => {
            let members = view.members.values();
            let voters = members.filter(|member| member.role == Role::Voter).count();
            u32::try_from(voters).unwrap_or(u32::MAX)
        }
        Seen::Unknown(_) => u32::try_from(stored.replicas.unwrap_or(0)).unwrap_or(0),
    }
}

fn object_view(object: &KvCluster) -> ObjectView {
    ObjectView {
        uid: ObjectUid(object.uid().unwrap_or_default()),
        name: object.name_any(),
        generation: object.metadata.generation.unwrap_or_default(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        finalizer: object.finalizers().iter().any(|name| name == FINALIZER),
        requests_stay: false,
        unreadable: None,
    }
}
