//! Executing a range: etcd's pipeline of fetch, filter, sort and cut, on versions; values are
//! read last and only for what is returned.

use super::counts::Counts;
use super::error::Error;
use super::index::Version;
use super::state::Shared;
use super::types::{
    Interval, KeyValue, LeaseId, RangeRequest, RangeResult, Revision, SortOrder, SortTarget,
};
use super::walk::{self, Direction, View, Walk};
use crate::storage::revision_log::{self, Pin, Record};
use bytes::{Bytes, BytesMut};
use std::cmp::Ordering;
use std::ops::ControlFlow;

/// How far above twice the limit a sorted selection grows before it is cut back.
const SELECTION_SLACK: usize = 1024;

/// The revision to read for the one a request names: 0 or less is the newest.
///
/// # Errors
/// [`Error::FutureRevision`], [`Error::Compacted`].
pub(super) fn resolve(wanted: i64, current: i64, compacted: i64) -> Result<i64, Error> {
    if wanted > current {
        return Err(Error::FutureRevision {
            current: Revision(current),
        });
    }
    let revision = if wanted <= 0 { current } else { wanted };
    if revision < compacted {
        return Err(Error::Compacted {
            compacted: Revision(compacted),
        });
    }
    Ok(revision)
}

/// A key that was found, with its record once that was read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: Bytes,
    pub(super) version: Version,
    record: Option<(Bytes, LeaseId)>,
}

impl Found {
    pub(super) fn new(key: Bytes, version: Version) -> Self {
        Self {
            key,
            version,
            record: None,
        }
    }

    /// Reads value and lease, unless that was done.
    fn load(&mut self, pin: &Pin) -> Result<(), revision_log::Error> {
        if self.record.is_none() {
            self.record = Some(read(pin, &self.version)?);
        }
        Ok(())
    }

    /// The pair, with what was read so far.
    fn into_kv(self, keep_value: bool) -> KeyValue {
        let (value, lease) = self.record.unwrap_or_default();
        KeyValue {
            key: self.key,
            create_revision: Revision(self.version.create),
            mod_revision: Revision(self.version.main),
            version: self.version.version,
            value: if keep_value { value } else { Bytes::new() },
            lease,
        }
    }

    /// The pair with its value.
    pub(super) fn read(mut self, pin: &Pin) -> Result<KeyValue, revision_log::Error> {
        self.load(pin)?;
        Ok(self.into_kv(true))
    }
}

/// Value and lease of a version.
///
/// # Panics
/// If the record is not that of a put at this revision: index and log disagree.
pub(super) fn read(pin: &Pin, version: &Version) -> Result<(Bytes, LeaseId), revision_log::Error> {
    let stored = pin.read(version.location)?;
    match stored.record() {
        Record::Put { mod_rev, lease, .. } if mod_rev.main == version.main.cast_unsigned() => {
            Ok((stored.value(), LeaseId(lease)))
        }
        other => panic!(
            "at {} a put of revision {} was expected, not {other:?}",
            version.location, version.main
        ),
    }
}

/// Executes `request` in `view`; `revision` is the header's.
///
/// The caller holds pins that keep `view` from being pruned and its records readable.
pub(super) fn run(
    shared: &Shared,
    pin: &Pin,
    request: &RangeRequest,
    view: View,
    revision: i64,
) -> Result<RangeResult, revision_log::Error> {
    let mut result = RangeResult {
        revision: Revision(revision),
        ..RangeResult::default()
    };
    if request.count_only {
        result.count = signed(walk::count(shared, &request.interval, view));
        return Ok(result);
    }
    let plan = Plan::of(request);
    let selected = select(shared, pin, request, view, &plan)?;
    result.count = signed(selected.count);
    result.more = plan.limit.is_some_and(|limit| selected.matched > limit);
    result.kvs.reserve_exact(selected.found.len());
    for mut found in selected.found {
        if !request.keys_only {
            found.load(pin)?;
        }
        result.kvs.push(found.into_kv(!request.keys_only));
    }
    Ok(result)
}

/// Answers a range over one key from the version that was found.
pub(super) fn single(
    pin: &Pin,
    request: &RangeRequest,
    version: Option<Version>,
    revision: i64,
) -> Result<RangeResult, revision_log::Error> {
    let mut result = RangeResult {
        revision: Revision(revision),
        count: i64::from(version.is_some()),
        ..RangeResult::default()
    };
    if let Some(version) = version.filter(|v| !request.count_only && passes(request, v)) {
        let mut found = Found::new(request.interval.start().clone(), version);
        if !request.keys_only || request.sort_target == SortTarget::Value {
            found.load(pin)?;
        }
        result.kvs.push(found.into_kv(!request.keys_only));
    }
    Ok(result)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).expect("fewer than 2^63 keys fit into memory")
}

/// How a request is fetched and ordered.
struct Plan {
    limit: Option<usize>,
    direction: Direction,
    /// Stop collecting after so many matches: walking order is the order of the answer, or etcd
    /// fetches no more.
    stop_after: Option<usize>,
    /// Sort what was collected.
    sort: Option<(SortTarget, SortOrder)>,
}

impl Plan {
    fn of(request: &RangeRequest) -> Self {
        let limit = usize::try_from(request.limit)
            .ok()
            .filter(|&limit| limit > 0);
        let by_key = request.sort_target == SortTarget::Key;
        let direction = match (by_key, request.sort_order) {
            (true, SortOrder::Descend) => Direction::Backward,
            _ => Direction::Forward,
        };
        // With a target but no order, etcd fetches limit + 1 keys in key order and sorts those.
        let quirk = request.sort_order == SortOrder::None && !has_filters(request);
        let stop_after = limit
            .filter(|_| by_key || quirk)
            .map(|limit| limit.saturating_add(1));
        let sort = (!by_key).then_some((request.sort_target, request.sort_order));
        Self {
            limit,
            direction,
            stop_after,
            sort,
        }
    }
}

fn filters(request: &RangeRequest) -> [Revision; 4] {
    [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ]
}

fn has_filters(request: &RangeRequest) -> bool {
    filters(request).iter().any(|bound| bound.0 != 0)
}

/// Whether `version` is within the revision bounds of the request.
fn passes(request: &RangeRequest, version: &Version) -> bool {
    let [min_mod, max_mod, min_create, max_create] = filters(request).map(|bound| bound.0);
    (min_mod == 0 || version.main >= min_mod)
        && (max_mod == 0 || version.main <= max_mod)
        && (min_create == 0 || version.create >= min_create)
        && (max_create == 0 || version.create <= max_create)
}

/// What [`select`] found.
struct Selected {
    found: Vec<Found>,
    /// How many passed the filters: all, or one more than the limit.
    matched: usize,
    /// Alive in the interval.
    count: u64,
}

fn select(
    shared: &Shared,
    pin: &Pin,
    request: &RangeRequest,
    view: View,
    plan: &Plan,
) -> Result<Selected, revision_log::Error> {
    let mut walk = Walk::new(&request.interval, view, plan.direction);
    let mut found = Vec::new();
    let (mut matched, mut seen) = (0, 0);
    let mut count = known_count(&shared.counts, view, &request.interval);
    while !walk.is_done() {
        let mut chunk = Chunk::default();
        {
            let state = shared.state.read();
            if seen == 0 && count.is_none() && view.is_counted(&state) {
                count = Some(state.index.count(&request.interval));
            }
            walk.step(&state, |key, version| {
                seen += 1;
                if plan.stop_after.is_none_or(|stop| matched < stop) && passes(request, version) {
                    matched += 1;
                    chunk.push(key, version);
                }
                // Without a count from elsewhere, the rest has to be counted.
                match plan.stop_after {
                    Some(stop) if matched >= stop && count.is_some() => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
        }
        let fresh = found.len();
        chunk.into_found(&mut found);
        if let Some((target, order)) = plan.sort {
            if target == SortTarget::Value {
                found[fresh..]
                    .iter_mut()
                    .try_for_each(|found| found.load(pin))?;
            }
            let full = plan
                .limit
                .map(|limit| limit.saturating_mul(2) + SELECTION_SLACK);
            if walk.is_done() || full.is_some_and(|full| found.len() > full) {
                found.sort_by(|a, b| compare(target, order, a, b));
                found.truncate(plan.limit.unwrap_or(usize::MAX));
            }
        }
    }
    found.truncate(plan.limit.unwrap_or(usize::MAX));
    let count = count.unwrap_or(seen);
    remember_rest(&shared.counts, request, view, plan, &found, count);
    Ok(Selected {
        found,
        matched,
        count,
    })
}

/// The count of a page of an old revision, when the page before it told.
fn known_count(counts: &Counts, view: View, interval: &Interval) -> Option<u64> {
    match view {
        View::At(revision) => counts.get(revision, interval),
        View::Own => None,
    }
}

/// Tells the count of the next page, if this is one of a listing in key order.
fn remember_rest(
    counts: &Counts,
    request: &RangeRequest,
    view: View,
    plan: &Plan,
    found: &[Found],
    count: u64,
) {
    let listing =
        plan.sort.is_none() && plan.direction == Direction::Forward && !has_filters(request);
    let rest = count.saturating_sub(found.len() as u64);
    if let (View::At(revision), Some(last), true) = (view, found.last(), listing && rest > 0) {
        counts.note(revision, &request.interval, &last.key, rest);
    }
}

/// Order of the answer. Ties go by key, so that all members answer alike.
fn compare(target: SortTarget, order: SortOrder, a: &Found, b: &Found) -> Ordering {
    let by_target = match target {
        SortTarget::Version => a.version.version.cmp(&b.version.version),
        SortTarget::Create => a.version.create.cmp(&b.version.create),
        SortTarget::Mod => a.version.main.cmp(&b.version.main),
        SortTarget::Value => {
            let value = |found: &Found| found.record.as_ref().map(|(value, _)| value.clone());
            value(a).cmp(&value(b))
        }
        SortTarget::Key | SortTarget::Unknown => Ordering::Equal,
    };
    let by_target = match order {
        SortOrder::Descend => by_target.reverse(),
        SortOrder::None | SortOrder::Ascend | SortOrder::Unknown => by_target,
    };
    by_target.then_with(|| a.key.cmp(&b.key))
}

/// The keys of one chunk, copied into one buffer while the lock is held.
#[derive(Default)]
struct Chunk {
    keys: BytesMut,
    versions: Vec<(usize, Version)>,
}

impl Chunk {
    fn push(&mut self, key: &[u8], version: &Version) {
        self.keys.extend_from_slice(key);
        self.versions.push((key.len(), *version));
    }

    fn into_found(mut self, found: &mut Vec<Found>) {
        found.extend(
            self.versions
                .into_iter()
                .map(|(len, version)| Found::new(self.keys.split_to(len).freeze(), version)),
        );
    }
}
