//! The ServiceAccount of the members: it may do nothing, and its token is mounted nowhere.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Inputs, Object, present};

/// The account, unless the spec names one.
pub(super) fn render(inputs: &Inputs) -> Result<Object, String> {
    let names = inputs.names;
    let account = ServiceAccount {
        metadata: names.metadata(names.cluster.clone()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    present(&account, names.cluster.clone())
}
