//! The settings that members take while they run (protocol 3.8): a ConfigMap that changes in place,
//! mounted whole.
//!
//! A single file of it (`subPath`) would never change, and a variable not before the next start.
//! Nothing of its content is in the template, so that no pod ends for a change.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, Volume, VolumeMount};

use super::{Inputs, Object, present};
use crate::settings::file;

/// Where it is mounted.
const FOLDER: &str = "/etc/quorate/settings";
/// The one file in it.
const FILE: &str = "settings";
/// Name of the volume.
const VOLUME: &str = "quorate-settings";

/// The ConfigMap's name.
fn name(inputs: &Inputs) -> String {
    format!("{}-settings", inputs.names.cluster)
}

/// The ConfigMap.
pub(super) fn render(inputs: &Inputs) -> Result<Object, String> {
    let (names, name) = (inputs.names, name(inputs));
    let map = ConfigMap {
        metadata: names.metadata(name.clone()),
        data: Some(BTreeMap::from([(FILE.to_owned(), file(inputs.spec))])),
        ..ConfigMap::default()
    };
    present(&map, name)
}

/// The volume of a pod.
pub(super) fn volume(inputs: &Inputs) -> Volume {
    Volume {
        name: VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: name(inputs),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Where the container sees it.
pub(super) fn mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// The node's flag for it.
pub(super) fn argument() -> String {
    format!("--settings-file={FOLDER}/{FILE}")
}
