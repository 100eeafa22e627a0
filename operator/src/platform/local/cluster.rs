//! One cluster on this machine: its directory, its manifest, and the processes of its set.
//!
//! Every pass begins with what a kubelet and a set controller do elsewhere (`keep`): it notices
//! ends, kills what does not stop, removes volumes whose deletion was asked for, writes the
//! settings that members take while they run, and starts slots of the set in which nothing was
//! started yet. Everything else happens only as a step (`platform.rs`). Calls to the disk block:
//! the files are small, and nothing else waits in this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use quorate_api::settings::BYTES_MAX;

use crate::crd::{KvCluster, KvClusterStatus};
use crate::ids::{ObjectUid, Slot, UnixMs};
use crate::record::Record;
use crate::settings;
use crate::validate::{SettingsCheck, validate};

use super::files::{read, write};
use super::life::{Keeper, Program};
use super::lock::Lock;
use super::manifest::{self, Manifest};
use super::ports::SLOTS_MAX;
use super::state::{FORMAT, State, StateFile};
use super::volume::Volume;
use super::{Error, Ports};
use crate::platform::doors::now;
use crate::platform::members::Members;

/// The client port of slot 0 when nothing else is asked for.
const BASE_PORT_DEFAULT: u16 = 2379;

/// What to run and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The manifest file.
    pub manifest: PathBuf,
    /// Where everything is kept; `None`: `.quorate/NAME` in the working directory.
    pub data_dir: Option<PathBuf>,
    /// Client port of slot 0; `None`: as the directory has it, or 2379.
    pub base_port: Option<u16>,
    /// The program whose verb `node` is a member.
    pub executable: PathBuf,
    /// How that program judges settings.
    pub settings: SettingsCheck,
}

/// The local platform for one cluster.
#[derive(Debug)]
pub struct Local {
    _lock: Lock,
    dir: PathBuf,
    executable: PathBuf,
    pub(super) settings: SettingsCheck,
    pub(super) ports: Ports,
    pub(super) admin: Members<Ports>,
    manifest: Manifest,
    /// The last good manifest.
    pub(super) accepted: KvCluster,
    /// The present content of the manifest was looked at.
    looked: bool,
    /// Why the present manifest is not in force, when it is not.
    pub(super) unreadable: Option<String>,
    state_file: StateFile,
    pub(super) state: State,
    pub(super) keepers: BTreeMap<Slot, Keeper>,
    /// Who led at the last look: asked first at the next.
    pub(super) leader: Option<Slot>,
}

impl Local {
    /// Takes over a data directory with everything that runs in it, or begins a new one.
    ///
    /// # Errors
    /// [`Error::Manifest`] without any good manifest; [`Error::InUse`]; [`Error::Foreign`] when the
    /// directory is of another cluster or port; and whatever cannot be read or written.
    pub fn open(options: Options) -> Result<Local, Error> {
        let manifest = Manifest::read(&options.manifest);
        let dir = match (&options.data_dir, &manifest.content) {
            (Some(dir), _) => dir.clone(),
            (None, Ok(cluster)) => Path::new(".quorate").join(name_of(cluster)),
            (None, Err(why)) => return Err(Error::Manifest(why.clone())),
        };
        let lock = Lock::take(&dir)?;
        let dir = dir
            .canonicalize()
            .map_err(|error| Error::io("cannot find", &dir, error))?;
        let state_file = StateFile::of(&dir);
        let state = match state_file.load()? {
            Some(state) => state,
            None => begin(&manifest, options.base_port, options.settings)?,
        };
        let ports = ports(&state, options.base_port, &dir)?;
        let accepted =
            manifest::parse(&options.manifest, &state.manifest).map_err(|why| Error::Damaged {
                path: dir.join("state.json"),
                why,
            })?;
        let mut local = Local {
            _lock: lock,
            executable: options.executable,
            settings: options.settings,
            ports,
            admin: Members::new(ports),
            manifest,
            accepted,
            looked: false,
            unreadable: None,
            state_file,
            state,
            keepers: BTreeMap::new(),
            leader: None,
            dir,
        };
        if let Ok(cluster) = &local.manifest.content
            && name_of(cluster) != local.state.name
        {
            return Err(Error::Foreign(format!(
                "data directory {} belongs to cluster {:?}, and the manifest describes {:?}.\n\
                 Give this cluster a directory of its own with --data-dir. Nothing was changed.",
                local.dir.display(),
                local.state.name,
                name_of(cluster)
            )));
        }
        local.save(local.state.clone())?;
        local.accept()?;
        local.resume()?;
        Ok(local)
    }

    /// The directory in use.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ports in use.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Why the manifest as it is now is not in force, if it is not.
    pub fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// The generation of the spec in force.
    pub fn generation(&self) -> i64 {
        self.state.generation
    }

    /// A cheap look whether a pass is due: another manifest, or a process that ended.
    ///
    /// # Errors
    /// What was noticed cannot be written down.
    pub fn stirred(&mut self) -> Result<bool, Error> {
        let mut stirred = self.accept()?;
        for keeper in self.keepers.values_mut() {
            stirred |= keeper.watch(now())?;
        }
        Ok(stirred)
    }

    /// Tells every process to stop; true once none runs. To be called until then.
    ///
    /// # Errors
    /// The path and what failed.
    pub fn stop(&mut self) -> Result<bool, Error> {
        let mut all_ended = true;
        for keeper in self.keepers.values_mut() {
            keeper.watch(now())?;
            if let Some(uid) = keeper
                .life()
                .filter(|life| life.runs())
                .map(|life| life.uid.clone())
            {
                keeper.stop(&uid, now())?;
                all_ended = false;
            } else {
                // Stopped in order: the next run starts it as if for the first time.
                let asked = keeper
                    .life()
                    .is_some_and(|life| life.stopping_since.is_some());
                if asked {
                    keeper.forget()?;
                }
            }
        }
        Ok(all_ended)
    }

    fn resume(&mut self) -> Result<(), Error> {
        for slot in (0..SLOTS_MAX).map(Slot) {
            let dir = self.slot_dir(slot);
            let volume = Volume::of(&dir);
            let uid = volume.view()?.map(|view| view.uid);
            let keeper = Keeper::resume(dir, &volume.data_dir(), uid, now())?;
            self.keepers.insert(slot, keeper);
        }
        Ok(())
    }

    pub(super) fn slot_dir(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("slot-{slot}"))
    }

    /// What members take while they run.
    fn settings_file(&self) -> PathBuf {
        self.dir.join("settings")
    }

    pub(super) fn keeper(&mut self, slot: Slot) -> Result<&mut Keeper, Error> {
        self.keepers.get_mut(&slot).ok_or_else(|| {
            Error::Refused(format!(
                "slot {slot} is beyond the {SLOTS_MAX} slots of this platform"
            ))
        })
    }

    pub(super) fn save(&mut self, state: State) -> Result<(), Error> {
        self.state_file.save(&state)?;
        self.state = state;
        Ok(())
    }

    /// Looks at the manifest and takes it over if it is new and good. True when anything changed.
    pub(super) fn accept(&mut self) -> Result<bool, Error> {
        let changed = self.manifest.refresh();
        if !changed && self.looked {
            return Ok(false);
        }
        self.looked = true;
        let cluster = match self.usable() {
            Ok(cluster) => cluster,
            Err(why) => {
                self.unreadable = Some(why);
                return Ok(true);
            }
        };
        self.unreadable = None;
        if self.manifest.text != self.state.manifest {
            let differs = cluster.spec != self.accepted.spec;
            let generation = self.state.generation + i64::from(differs);
            let manifest = self.manifest.text.clone();
            self.save(State {
                generation,
                manifest,
                ..self.state.clone()
            })?;
        }
        self.accepted = cluster;
        Ok(true)
    }

    /// Writes what members are to take while they run; they look by themselves. While nothing is
    /// to be done, a file that is there stays.
    fn push_settings(&self) -> Result<(), Error> {
        let (path, text) = (self.settings_file(), settings::file(&self.accepted.spec));
        match read(&path, BYTES_MAX as u64) {
            Ok(there) if there == text.as_bytes() || self.accepted.spec.paused => Ok(()),
            _ => write(&path, text.as_bytes()),
        }
    }

    /// The manifest as it is now, if it can take the place of the one in force.
    fn usable(&self) -> Result<KvCluster, String> {
        let cluster = self.manifest.content.clone()?;
        let shown = self.manifest.path().display();
        if name_of(&cluster) != self.state.name {
            return Err(format!(
                "{shown}: metadata.name: the running cluster is {:?} and its name cannot become \
                 {:?}. Take the name back, or start the other cluster on its own.",
                self.state.name,
                name_of(&cluster)
            ));
        }
        let record = Record::from_status(&self.state.status).map_err(|error| error.to_string())?;
        let mut resource = cluster.clone();
        resource.status = Some(self.state.status.clone());
        validate(&resource, &record, self.settings)
            .map_err(|invalid| format!("{shown}: {invalid}"))?;
        Ok(cluster)
    }

    /// Does what goes without saying; see the head of this file.
    pub(super) fn keep(&mut self) -> Result<(), Error> {
        let now = now();
        self.push_settings()?;
        for slot in (0..SLOTS_MAX).map(Slot) {
            let wanted = self.state.slots.is_some_and(|count| slot.0 < count);
            let volume = Volume::of(&self.slot_dir(slot));
            let keeper = self.keeper(slot)?;
            keeper.watch(now)?;
            let running = keeper
                .life()
                .filter(|life| life.runs())
                .map(|life| life.uid.clone());
            match running {
                Some(uid) if !wanted => keeper.stop(&uid, now)?,
                Some(_) => {}
                None => {
                    if !wanted {
                        keeper.forget()?;
                    }
                    volume.collect()?;
                }
            }
            if wanted && self.keeper(slot)?.life().is_none() && volume.view()?.is_some() {
                self.start(slot, now)?;
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self, slot: Slot, now: UnixMs) -> Result<(), Error> {
        let volume = Volume::of(&self.slot_dir(slot));
        let Some(view) = volume.view()? else {
            return Err(Error::Conflict(format!(
                "slot {slot} has no volume to start on"
            )));
        };
        let epoch = self.epoch_due()?;
        let program = Program {
            executable: self.executable.clone(),
            args: self.arguments(slot, &volume.data_dir(), epoch),
            volume: view.uid,
            epoch,
        };
        self.keeper(slot)?.start(&program, now)
    }

    /// The epoch that lives begun now are to take part in.
    pub(super) fn epoch_due(&self) -> Result<u64, Error> {
        let record = Record::from_status(&self.state.status);
        let record = record.map_err(|error| Error::Foreign(error.to_string()))?;
        Ok(record.epoch_due())
    }

    fn arguments(&self, slot: Slot, data_dir: &Path, epoch: u64) -> Vec<OsString> {
        let client = format!("http://{}", self.ports.client(slot));
        let peer = self.ports.peer_url(slot);
        let mut args: Vec<OsString> = vec!["node".into(), "--managed".into(), "--data-dir".into()];
        args.push(data_dir.into());
        let mut flag = |name: &str, value: &str| args.push(format!("--{name}={value}").into());
        flag("name", &self.node_name(slot));
        flag("listen-client-urls", &client);
        flag("advertise-client-urls", &client);
        flag("listen-peer-urls", &peer);
        flag("initial-advertise-peer-urls", &peer);
        flag("listen-admin", &self.ports.admin(slot).to_string());
        flag("epoch", &epoch.to_string());
        flag("settings-file", &self.settings_file().to_string_lossy());
        for (name, value) in settings::cold(&self.accepted.spec) {
            flag(&name, &value);
        }
        args
    }

    pub(super) fn node_name(&self, slot: Slot) -> String {
        format!("{}-{slot}", self.state.name)
    }
}

fn name_of(cluster: &KvCluster) -> String {
    cluster.metadata.name.clone().unwrap_or_default()
}

/// The first state of a new directory.
fn begin(
    manifest: &Manifest,
    base_port: Option<u16>,
    settings: SettingsCheck,
) -> Result<State, Error> {
    let cluster = manifest
        .content
        .as_ref()
        .map_err(|why| Error::Manifest(why.clone()))?;
    // Without an earlier manifest to go on with, only a valid one may begin.
    validate(cluster, &Record::default(), settings)
        .map_err(|invalid| Error::Manifest(format!("{}: {invalid}", manifest.path().display())))?;
    Ok(State {
        format: FORMAT,
        name: name_of(cluster),
        uid: ObjectUid(uuid::Uuid::new_v4().to_string()),
        base_port: base_port.unwrap_or(BASE_PORT_DEFAULT),
        generation: 1,
        manifest: manifest.text.clone(),
        slots: None,
        status: KvClusterStatus::default(),
    })
}

fn ports(state: &State, wanted: Option<u16>, dir: &Path) -> Result<Ports, Error> {
    if let Some(wanted) = wanted.filter(|wanted| *wanted != state.base_port) {
        return Err(Error::Foreign(format!(
            "data directory {} was made with --base-port {}, and the members know each other by \
             their ports, so that --base-port {wanted} cannot be used.\nLeave --base-port out, or \
             choose another directory with --data-dir. Nothing was changed.",
            dir.display(),
            state.base_port
        )));
    }
    Ports::from_base(state.base_port).ok_or_else(|| {
        Error::Refused(format!(
            "--base-port {} leaves no room for {SLOTS_MAX} slots of 10 ports; use one from 1 to {}",
            state.base_port,
            u32::from(u16::MAX) - 10 * SLOTS_MAX
        ))
    })
}
