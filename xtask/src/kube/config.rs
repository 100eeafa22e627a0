//! The run's configuration files, made from the texts in `assets/`.

use super::network::{NODE_ADDRESS, POD_RANGE};
use super::packages::CNI_FOLDER;
use super::run::Run;
use super::shell_in;
use anyhow::{Context, Result};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

/// Path inside the run's folder, and text.
const FILES: &[(&str, &str)] = &[
    ("kubeconfig", include_str!("assets/kubeconfig.yaml")),
    (
        "containerd/config.toml",
        include_str!("assets/containerd.toml"),
    ),
    (
        "cni/10-pods.conflist",
        include_str!("assets/network.conflist"),
    ),
    ("kubelet/config.yaml", include_str!("assets/kubelet.yaml")),
    ("coredns/Corefile", include_str!("assets/Corefile")),
    ("storage.yaml", include_str!("assets/storage.yaml")),
];

/// Writes all files, a fresh administrator's token and the key that signs service accounts.
///
/// # Errors
/// When a file cannot be written or `openssl` fails.
pub fn write(run: &Run) -> Result<()> {
    for folder in ["certs", "etcd", "tmp", "volumes", "pods"] {
        std::fs::create_dir_all(run.join(folder))?;
    }
    // etcd warns about a folder that others can read.
    std::fs::set_permissions(run.join("etcd"), std::fs::Permissions::from_mode(0o700))?;
    let token = random_token()?;
    for (name, text) in FILES {
        let path = run.join(name);
        std::fs::create_dir_all(path.parent().context("a path inside the run's folder")?)?;
        std::fs::write(&path, filled(text, run, &token))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    std::fs::write(
        run.join("certs/tokens.csv"),
        format!("{token},admin,admin,\"system:masters\"\n"),
    )?;
    let key = run.join("certs/service-accounts.key");
    let key = key.to_string_lossy();
    // In the older of two PEM forms: the API server does not read the newer one for this kind.
    let args = [
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        &key,
    ];
    shell_in("openssl", &args)
}

fn filled(text: &str, run: &Run, token: &str) -> String {
    text.replace("{{RUN}}", &run.shown())
        .replace("{{CGROUP}}", &run.cgroup())
        .replace("{{NODE}}", NODE_ADDRESS)
        .replace("{{POD_RANGE}}", POD_RANGE)
        .replace("{{CNI}}", CNI_FOLDER)
        .replace("{{TOKEN}}", token)
}

/// 128 random bits in hexadecimal.
fn random_token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_placeholder_is_left_unfilled() {
        let run = Run::named("x").expect("a usable name");
        for (name, text) in FILES {
            let filled = filled(text, &run, "secret");
            assert!(!filled.contains("{{"), "{name}:\n{filled}");
        }
    }
}
