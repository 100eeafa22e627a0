//! The `Dockerfile` and `cargo xtask image` build the same image: compares the first with the
//! constants of the second.

use super::{ETCD_LINK, GROUP, LABELS, PASSWD, PATH_VARIABLE, PORTS, PROGRAM, STATIC_FLAGS, USER};
use crate::shell;
use anyhow::Result;

/// Findings for tidy: every line that the `Dockerfile` must have and does not.
///
/// # Errors
/// When a file cannot be read.
pub fn matches_the_contract() -> Result<Vec<String>> {
    let dockerfile = shell::read(&shell::root().join("Dockerfile"))?;
    let toolchain = shell::read(&shell::root().join("rust-toolchain.toml"))?;
    let toolchain = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .unwrap_or_default()
        .trim_matches('"');
    Ok(missing(&dockerfile, toolchain)
        .into_iter()
        .map(|line| {
            format!(
                "Dockerfile: has no line `{line}`; xtask/src/image/mod.rs says what the image is"
            )
        })
        .collect())
}

fn missing(dockerfile: &str, toolchain: &str) -> Vec<String> {
    let mut wanted = vec![
        format!("FROM rust:{toolchain}-slim-bookworm AS build"),
        format!("ENV RUSTFLAGS=\"{STATIC_FLAGS}\""),
        "FROM scratch".to_owned(),
        format!("USER {USER}"),
        format!("ENTRYPOINT [\"{PROGRAM}\"]"),
        format!("ENV {PATH_VARIABLE}"),
        format!("EXPOSE {}", numbers(PORTS)),
        format!("    ln -s quorate /image{ETCD_LINK} && \\"),
        format!("    echo '{}' > /image/etc/passwd && \\", PASSWD.trim_end()),
        format!("    echo '{}' > /image/etc/group", GROUP.trim_end()),
        "ARG VERSION".to_owned(),
        "LABEL org.opencontainers.image.version=$VERSION".to_owned(),
    ];
    for (name, value) in LABELS {
        wanted.push(format!("LABEL {name}=\"{value}\""));
    }
    wanted.retain(|line| !dockerfile.lines().any(|has| has == line));
    wanted
}

fn numbers(ports: &[u16]) -> String {
    let texts: Vec<String> = ports.iter().map(u16::to_string).collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_in_the_dockerfile_is_found() {
        let dockerfile = shell::read(&shell::root().join("Dockerfile")).expect("there is one");
        let planted = dockerfile.replace("USER 65532:65532", "USER root");
        assert_ne!(dockerfile, planted);
        let found = missing(&planted, "1.95.0");
        assert_eq!(found, ["USER 65532:65532"]);
    }
}
