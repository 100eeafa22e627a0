//! The operator as a process: watches, queue, passes, Lease, pages.
//!
//! One task runs it all; passes of different clusters interleave in it and are bounded in number.
//! Asked to stop, it begins no pass, lets those that run end, and gives the Lease back; killed, it
//! leaves nothing that the next operator could not go on from. Must not know: the planner's rules.

mod calls;
mod http;
mod lease;
mod metrics;
mod queue;
mod watch;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::watch as signal;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::http::{Board, Shared, on};
use self::lease::Elector;
use self::metrics::Metrics;
use self::queue::{Ended, Key, Queue};
use self::watch::Sign;
use self::worker::{Tools, Worker};
use crate::platform::kubernetes::FIELD_MANAGER;
use crate::validate::SettingsCheck;

/// How long running passes may take to end when the operator is to stop.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// How often the loop goes round when nothing happens.
const BEAT: Duration = Duration::from_secs(5);

/// How an operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespaces whose clusters are looked after; none: all.
    pub namespaces: Vec<String>,
    /// Which clusters, by labels.
    pub selector: Option<String>,
    /// Where the pages are.
    pub listen: SocketAddr,
    /// The Lease to hold while working; `None`: none.
    pub lease: Option<LeaseName>,
    /// Who this process is, in the Lease and in events.
    pub identity: String,
    /// The most passes at the same time.
    pub concurrency: usize,
    /// The DNS domain for clusters that name none.
    pub cluster_domain: Option<String>,
    /// How the members' program judges settings.
    pub check: SettingsCheck,
}

/// Where the Lease is.
#[derive(Clone, Debug)]
pub struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Runs until `stop`.
///
/// # Errors
/// What makes it impossible to work, in words: the address is taken, or the Lease was lost.
pub async fn run(
    client: Client,
    settings: Settings,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let metrics = Metrics::new().map_err(|error| format!("the metrics: {error}"))?;
    let client = calls::counted(client, metrics.api_requests.clone());
    let board: Board = Arc::new(Mutex::new(Shared {
        metrics,
        beat: Instant::now(),
        waiting_for: Some("the API server has not answered yet".to_owned()),
    }));
    let listener = http::bind(settings.listen).await?;
    let (stopped, mut stopping) = signal::channel(false);
    let until = async move {
        let _ = stopping.wait_for(|stopped| *stopped).await;
    };
    let pages = http::serve(listener, board.clone(), until);
    let work = async {
        let ended = lead(client, &settings, &board, stop).await;
        let _ = stopped.send(true);
        ended
    };
    let (served, ended) = futures_util::future::join(pages, work).await;
    ended?;
    served.map_err(|error| format!("the pages on {}: {error}", settings.listen))
}

/// Waits for the Lease, works while it is held, gives it back.
async fn lead(
    client: Client,
    settings: &Settings,
    board: &Board,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let mut stop = pin!(stop);
    let elector = settings.lease.as_ref().map(|lease| {
        let identity = settings.identity.clone();
        Elector::new(client.clone(), &lease.namespace, &lease.name, identity)
    });
    let Some(mut elector) = elector else {
        let never = std::future::pending::<String>();
        return work(client, settings, board, stop, never).await;
    };
    tokio::select! {
        transitions = elector.acquire() => {
            tracing::info!(identity = settings.identity, transitions, "this operator works now");
        }
        () = beat(board) => {}
        () = &mut stop => return Ok(()),
    }
    let ended = {
        let mut keeper = elector.clone();
        let lost = async move { keeper.keep().await };
        work(client, settings, board, stop, lost).await
    };
    if ended.is_ok() {
        elector.release().await;
    }
    ended
}

/// While waiting for the Lease: the loop goes round, and the operator is ready to take over.
async fn beat(board: &Board) {
    loop {
        on(board, |shared| {
            shared.beat = Instant::now();
            shared.waiting_for = None;
        });
        sleep(BEAT).await;
    }
}

/// The loop: signs in, passes out.
async fn work(
    client: Client,
    settings: &Settings,
    board: &Board,
    stop: impl Future<Output = ()>,
    lost: impl Future<Output = String>,
) -> Result<(), String> {
    let reporter = Reporter {
        controller: FIELD_MANAGER.to_owned(),
        instance: Some(settings.identity.clone()),
    };
    let tools = Tools {
        recorder: Recorder::new(client.clone(), reporter),
        client: client.clone(),
        board: board.clone(),
        domain: settings.cluster_domain.clone(),
        settings: settings.check,
    };
    let (mut stop, mut lost) = (pin!(stop), pin!(lost));
    let mut signs = watch::signs(&client, &settings.namespaces, settings.selector.as_deref());
    let mut queue = Queue::new(settings.concurrency);
    let mut idle: BTreeMap<Key, Worker> = BTreeMap::new();
    let mut passes = FuturesUnordered::new();
    on(board, |shared| shared.metrics.leader.set(1));
    loop {
        let now = Instant::now();
        while let Some(key) = queue.take(now) {
            let worker = idle.remove(&key);
            let worker = worker.unwrap_or_else(|| Worker::new(key.clone(), &tools));
            passes.push(one_pass(key, worker, tools.clone()));
        }
        on(board, |shared| {
            shared.beat = now;
            let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
            shared.metrics.queue_depth.set(count(queue.depth(now)));
            shared.metrics.queue_running.set(count(queue.running()));
        });
        let wake = queue.next().map_or(now + BEAT, |due| due.min(now + BEAT));
        tokio::select! {
            () = &mut stop => break,
            why = &mut lost => return Err(format!("the lease was lost: {why}")),
            Some((key, worker, ended)) = passes.next() => {
                if ended != Ended::Gone {
                    idle.insert(key.clone(), worker);
                }
                queue.end(&key, ended, jitter(), Instant::now());
                if !queue.contains(&key) {
                    idle.remove(&key);
                }
            }
            Some(sign) = signs.next() => take_in(sign, &mut queue, &mut idle, settings, board),
            () = sleep_until(wake) => {}
        }
    }
    tracing::info!(running = queue.running(), "stopping");
    on(board, |shared| shared.metrics.leader.set(0));
    let _ = timeout(STOP_GRACE, async { while passes.next().await.is_some() {} }).await;
    Ok(())
}

async fn one_pass(key: Key, mut worker: Worker, tools: Tools) -> (Key, Worker, Ended) {
    let ended = worker.pass(&tools).await;
    (key, worker, ended)
}

fn take_in(
    sign: Sign,
    queue: &mut Queue,
    idle: &mut BTreeMap<Key, Worker>,
    settings: &Settings,
    board: &Board,
) {
    let now = Instant::now();
    match sign {
        Sign::Cluster(key) => queue.touch(key, now),
        // What belongs to a cluster that is not ours wakes nobody.
        Sign::Part(key) if queue.contains(&key) => queue.touch(key, now),
        Sign::Part(_) => {}
        // It may only have lost the label: then it must not be looked at again.
        Sign::Left(key) if settings.selector.is_some() => {
            queue.drop_key(&key);
            idle.remove(&key);
            on(board, |shared| shared.metrics.forget(&key));
        }
        Sign::Left(key) => queue.touch(key, now),
        Sign::Listed => on(board, |shared| shared.waiting_for = None),
        Sign::Failed(why) => {
            tracing::warn!(error = why, "a watch failed and is begun again");
            on(board, |shared| shared.metrics.watch_errors.inc());
        }
    }
}

/// Spreads what would otherwise come at the same moment.
fn jitter() -> u8 {
    uuid::Uuid::new_v4().into_bytes()[15]
}
