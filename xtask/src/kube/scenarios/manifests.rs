//! What users apply is accepted by a real API server, and the image and the volumes that everything
//! else stands on work.

use super::{Bench, in_namespace};
use crate::kube::wait_until;
use crate::{image as image_of_this_tree, shell};
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// Name of the custom resource definition.
pub const CRD_NAME: &str = "kvclusters.quorate.dev";
/// How long a pod may take to start or a volume to change.
const SOON: Duration = Duration::from_secs(60);

/// Applies `deploy/crds.yaml` and waits until the resource is served.
pub fn install_crd(bench: &Bench) -> Result<()> {
    let path = shell::root().join("deploy/crds.yaml");
    let path = path.to_string_lossy();
    // On the server's side: an object of this size does not fit into the annotation of the other.
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--filename",
        &path,
    ];
    bench.kubectl(&args)?;
    // Not `kubectl wait`: it fails on an object that has no conditions yet.
    let served = ["get", "--raw", "/apis/quorate.dev/v1alpha1"];
    wait_until("the resource is served", SOON, || {
        bench
            .kubectl(&served)
            .is_ok_and(|list| list.contains("\"name\":\"kvclusters\""))
    })
}

/// The CRD is accepted and offers what it promises.
pub fn crd(bench: &Bench) -> Result<()> {
    install_crd(bench)?;
    let crd = bench.json(&["get", "crd", CRD_NAME])?;
    for condition in crd["status"]["conditions"].as_array().into_iter().flatten() {
        if condition["type"] == "NonStructuralSchema" && condition["status"] == "True" {
            bail!("the schema is not structural: {}", condition["message"]);
        }
    }
    let resources = bench.kubectl(&["get", "--raw", "/apis/quorate.dev/v1alpha1"])?;
    for name in ["kvclusters", "kvclusters/status", "kvclusters/scale"] {
        ensure!(
            resources.contains(&format!("\"name\":\"{name}\"")),
            "{name} is not served: {resources}"
        );
    }
    in_namespace(bench, "crd", |namespace| {
        let object = "apiVersion: quorate.dev/v1alpha1\nkind: KvCluster\n\
                      metadata: {name: small}\nspec: {}\n";
        let args = ["create", "--namespace", namespace, "--filename=-"];
        let created = bench.try_kubectl(&args, object)?;
        ensure!(created.status.success(), "{created:?}");
        bench.kubectl(&[
            "scale",
            "--namespace",
            namespace,
            "kvc/small",
            "--replicas=5",
        ])?;
        let scaled = bench.json(&["get", "--namespace", namespace, "kvc", "small"])?;
        ensure!(
            scaled["spec"]["replicas"] == 5,
            "kubectl scale had no effect: {scaled}"
        );
        bench.kubectl(&["delete", "--namespace", namespace, "kvc", "small"])?;
        Ok(())
    })
}

/// Every example is accepted, without a warning.
pub fn examples(bench: &Bench) -> Result<()> {
    install_crd(bench)?;
    let examples = shell::files("deploy/examples", ".yaml")?;
    ensure!(!examples.is_empty(), "deploy/examples has no YAML file");
    in_namespace(bench, "examples", |namespace| {
        for path in &examples {
            // The API server knows this namespace only, whichever an example names.
            let text = shell::read(path)?;
            let here = |line: &str| match line.strip_prefix("  namespace: ") {
                Some(_) => format!("  namespace: {namespace}\n"),
                None => format!("{line}\n"),
            };
            let text: String = text.lines().map(here).collect();
            let args = [
                "apply",
                "--namespace",
                namespace,
                "--dry-run=server",
                "--filename=-",
            ];
            let output = bench.try_kubectl(&args, &text)?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.success() && said.is_empty(),
                "{}: {said}",
                shell::shown(path)
            );
        }
        println!("  {} files accepted", examples.len());
        Ok(())
    })
}

/// A pod of one member. The image must come from this tree and never from a registry.
fn member(volume: &str) -> Result<String> {
    let image = format!(
        "docker.io/{}:{}",
        image_of_this_tree::REPOSITORY,
        image_of_this_tree::version()?
    );
    Ok(include_str!("../assets/member.yaml")
        .replace("{{IMAGE}}", &image)
        .replace("{{VOLUME}}", volume))
}

fn start_member(bench: &Bench, namespace: &str, volume: &str) -> Result<()> {
    let args = ["apply", "--namespace", namespace, "--filename=-"];
    let output = bench.try_kubectl(&args, &member(volume)?)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.is_empty(),
        "the pod: {said}"
    );
    let wait = [
        "wait",
        "--namespace",
        namespace,
        "--for=condition=Ready",
        "pod/member",
        "--timeout=60s",
    ];
    bench.kubectl(&wait).map(drop).or_else(|error| {
        let pod = bench.kubectl(&["describe", "--namespace", namespace, "pod/member"])?;
        let logs = bench.kubectl(&["logs", "--namespace", namespace, "member"]);
        Err(error.context(format!("{pod}\n{}", logs.unwrap_or_default())))
    })
}

fn in_member(bench: &Bench, namespace: &str, command: &[&str]) -> Result<String> {
    let args = ["exec", "--namespace", namespace, "member", "--", "quorate"];
    bench.kubectl(&[&args, command].concat())
}

/// The image starts under restricted pod security, keeps a key, and runs as who it should.
pub fn image(bench: &Bench) -> Result<()> {
    in_namespace(bench, "image", |namespace| {
        start_member(bench, namespace, "emptyDir: {}")?;
        in_member(bench, namespace, &["put", "a", "b"])?;
        let got = in_member(bench, namespace, &["get", "a"])?;
        ensure!(got.lines().any(|line| line == "b"), "get a printed {got:?}");
        let version = in_member(bench, namespace, &["version"])?;
        let wanted = image_of_this_tree::version()?;
        ensure!(version.contains(&wanted), "version printed {version:?}");
        Ok(())
    })
}

/// A claim is bound, written without root, grown online, and goes with all that was in it.
pub fn volumes(bench: &Bench) -> Result<()> {
    in_namespace(bench, "volumes", |namespace| {
        let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n\
                     spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 1Gi}}}\n";
        let args = ["apply", "--namespace", namespace, "--filename=-"];
        let output = bench.try_kubectl(&args, claim)?;
        ensure!(output.status.success(), "{output:?}");
        start_member(bench, namespace, "persistentVolumeClaim: {claimName: data}")?;
        in_member(bench, namespace, &["put", "a", "b"])?;
        let get = ["get", "--namespace", namespace, "pvc", "data"];
        let volume = bench.json(&get)?["spec"]["volumeName"]
            .as_str()
            .context("the claim names no volume")?
            .to_owned();
        let folder = bench.run().join("volumes").join(&volume);
        ensure!(folder.exists(), "{} is missing", folder.display());

        let grow = r#"--patch={"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
        bench.kubectl(&["patch", "--namespace", namespace, "pvc", "data", grow])?;
        wait_until("the claim has grown", SOON, || {
            bench
                .json(&get)
                .is_ok_and(|claim| claim["status"]["capacity"]["storage"] == "2Gi")
        })?;
        in_member(bench, namespace, &["put", "a", "c"])?;

        bench.kubectl(&["delete", "--namespace", namespace, "pod/member", "pvc/data"])?;
        wait_until("the volume is gone", SOON, || {
            let found = bench.kubectl(&["get", "pv", "--ignore-not-found", &volume]);
            found.is_ok_and(|text| text.is_empty()) && !folder.exists()
        })
    })
}
