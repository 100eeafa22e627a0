//! What the state machine promises, written as plainly as possible and sharing no code with it:
//! every key with the list of all its versions, and linear scans.

use quorate_node::kv::{
    Applied, Compare, CompareResult, CompareTarget, DeleteRange, DeleteRangeResult, Error,
    Interval, KeyValue, LeaseId, Op, Put, PutResult, RangeRequest, RangeResult, Response, Revision,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResult, TxnResult,
};
use std::collections::BTreeMap;

/// A version: the pair, or none for a deletion.
type Versions = Vec<(i64, Option<KeyValue>)>;

/// The whole state.
#[derive(Clone, Debug)]
pub struct Model {
    keys: BTreeMap<Vec<u8>, Versions>,
    /// As the store's.
    pub revision: i64,
    /// As the store's; -1 before the first compaction.
    pub compacted: i64,
    /// The revision that writes go to while a command runs.
    writing: Option<i64>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            revision: 1,
            compacted: -1,
            writing: None,
        }
    }
}

fn inside(interval: &Interval, key: &[u8]) -> bool {
    match interval {
        Interval::Key(one) => key == &one[..],
        Interval::From(start) => key >= &start[..],
        Interval::Between { start, end } => key >= &start[..] && key < &end[..],
    }
}

impl Model {
    fn get(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let versions = self.keys.get(key)?;
        versions
            .iter()
            .rfind(|(main, _)| *main <= revision)?
            .1
            .clone()
    }

    fn all(&self, interval: &Interval, revision: i64) -> Vec<KeyValue> {
        let keys = self.keys.keys().filter(|key| inside(interval, key));
        keys.filter_map(|key| self.get(key, revision)).collect()
    }

    /// The newest state, unfinished writes included.
    fn now(&self) -> i64 {
        self.writing.unwrap_or(self.revision)
    }

    fn write(&mut self, key: &[u8], pair: Option<KeyValue>) {
        let main = self.revision + 1;
        self.writing = Some(main);
        self.keys
            .entry(key.to_vec())
            .or_default()
            .push((main, pair));
    }

    /// Executes a command.
    pub fn apply(&mut self, op: &Op) -> Applied {
        let before = self.clone();
        let result = self.execute(op);
        if let Err(error) = &result {
            *self = before;
            return Applied {
                revision: Revision(self.revision),
                result: Err(error.clone()),
            };
        }
        self.revision = self.now();
        self.writing = None;
        Applied {
            revision: Revision(self.revision),
            result,
        }
    }

    fn execute(&mut self, op: &Op) -> Result<Response, Error> {
        Ok(match op {
            Op::Put(put) => Response::Put(self.put(put)?),
            Op::DeleteRange(delete) => Response::DeleteRange(self.delete(delete)),
            Op::Txn(txn) => {
                let start = self.clone();
                Response::Txn(self.txn(txn, &start)?)
            }
            Op::Compact(compact) => {
                let wanted = compact.revision.0;
                if wanted <= self.compacted {
                    return Err(Error::Compacted {
                        compacted: Revision(self.compacted),
                    });
                }
                if wanted > self.revision {
                    return Err(Error::FutureRevision {
                        current: Revision(self.revision),
                    });
                }
                self.compacted = wanted;
                Response::Compact
            }
            other => panic!("the model does not know {other:?}"),
        })
    }

    fn put(&mut self, put: &Put) -> Result<PutResult, Error> {
        if put.lease != LeaseId(0) {
            return Err(Error::LeaseNotFound);
        }
        let old = self.get(&put.key, self.now());
        if old.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        let main = self.revision + 1;
        let mut pair = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: Revision(main),
            mod_revision: Revision(main),
            version: 1,
            lease: LeaseId(0),
        };
        if let Some(old) = &old {
            pair.create_revision = old.create_revision;
            pair.version = old.version + 1;
            if put.ignore_value {
                pair.value = old.value.clone();
            }
        }
        self.write(&put.key, Some(pair));
        Ok(PutResult {
            prev_kv: old.filter(|_| put.prev_kv),
        })
    }

    fn delete(&mut self, delete: &DeleteRange) -> DeleteRangeResult {
        let old = self.all(&delete.interval, self.now());
        for pair in &old {
            self.write(&pair.key, None);
        }
        let deleted = old.len() as i64;
        DeleteRangeResult {
            deleted,
            prev_kvs: if delete.prev_kv { old } else { Vec::new() },
        }
    }

    /// A range as a request of its own.
    ///
    /// # Errors
    /// Revisions compacted or not reached.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResult, Error> {
        let wanted = request.revision.0;
        if wanted > self.revision {
            return Err(Error::FutureRevision {
                current: Revision(self.revision),
            });
        }
        if wanted > 0 && wanted < self.compacted {
            return Err(Error::Compacted {
                compacted: Revision(self.compacted),
            });
        }
        Ok(self.fetch(request))
    }

    fn fetch(&self, request: &RangeRequest) -> RangeResult {
        let at = if request.revision.0 > 0 {
            request.revision.0
        } else {
            self.now()
        };
        let mut kvs = self.all(&request.interval, at);
        let count = kvs.len() as i64;
        let result = RangeResult {
            revision: Revision(self.now()),
            count,
            ..Default::default()
        };
        if request.count_only {
            return result;
        }
        let bounds = [
            request.min_mod_revision.0,
            request.max_mod_revision.0,
            request.min_create_revision.0,
            request.max_create_revision.0,
        ];
        let limit = usize::try_from(request.limit).unwrap_or(0);
        if limit > 0 && request.sort_order == SortOrder::None && bounds == [0; 4] {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            let (modified, created) = (kv.mod_revision.0, kv.create_revision.0);
            (bounds[0] == 0 || modified >= bounds[0])
                && (bounds[1] == 0 || modified <= bounds[1])
                && (bounds[2] == 0 || created >= bounds[2])
                && (bounds[3] == 0 || created <= bounds[3])
        });
        let number = |kv: &KeyValue| match request.sort_target {
            SortTarget::Version => kv.version,
            SortTarget::Create => kv.create_revision.0,
            SortTarget::Mod => kv.mod_revision.0,
            _ => 0,
        };
        let text = |kv: &KeyValue| match request.sort_target {
            SortTarget::Value => kv.value.clone(),
            _ => bytes::Bytes::new(),
        };
        kvs.sort_by_key(|kv| (number(kv), text(kv)));
        if request.sort_order == SortOrder::Descend {
            if request.sort_target == SortTarget::Key {
                kvs.reverse();
            } else {
                // Ties stay in the order of keys.
                kvs.sort_by_key(|kv| std::cmp::Reverse((number(kv), text(kv))));
            }
        }
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        RangeResult {
            kvs,
            more,
            ..result
        }
    }

    /// A transaction that only reads.
    pub fn read(&self, txn: &Txn) -> Result<TxnResult, Error> {
        let mut copy = self.clone();
        copy.txn(txn, self)
    }

    /// `start` is the state before the outermost transaction.
    fn txn(&mut self, txn: &Txn, start: &Self) -> Result<TxnResult, Error> {
        let succeeded = txn.compare.iter().all(|compare| start.holds(compare));
        let branch = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let mut responses = Vec::new();
        for op in branch {
            let response = match op {
                TxnOp::Range(request) => {
                    let wanted = request.revision.0;
                    if wanted > start.revision {
                        return Err(Error::FutureRevision {
                            current: Revision(start.revision),
                        });
                    }
                    if wanted != 0 && wanted < start.compacted {
                        return Err(Error::Compacted {
                            compacted: Revision(start.compacted),
                        });
                    }
                    TxnOpResult::Range(self.fetch(request))
                }
                TxnOp::Put(put) => {
                    let result = self.put(put)?;
                    TxnOpResult::Put {
                        revision: Revision(self.now()),
                        result,
                    }
                }
                TxnOp::DeleteRange(delete) => {
                    let result = self.delete(delete);
                    TxnOpResult::DeleteRange {
                        revision: Revision(self.now()),
                        result,
                    }
                }
                TxnOp::Txn(txn) => TxnOpResult::Txn(self.txn(txn, start)?),
                TxnOp::Empty => return Err(Error::KeyNotFound),
            };
            responses.push(response);
        }
        Ok(TxnResult {
            succeeded,
            responses,
        })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.all(&compare.interval, self.revision);
        if found.is_empty() {
            return match compare.target {
                CompareTarget::Value(_) => false,
                _ => self.holds_for(compare, &KeyValue::default()),
            };
        }
        found.iter().all(|kv| self.holds_for(compare, kv))
    }

    fn holds_for(&self, compare: &Compare, kv: &KeyValue) -> bool {
        // How far left is from right.
        let order = match &compare.target {
            CompareTarget::Version(version) => kv.version - version,
            CompareTarget::Create(revision) => kv.create_revision.0 - revision.0,
            CompareTarget::Mod(revision) => kv.mod_revision.0 - revision.0,
            CompareTarget::Lease(lease) => kv.lease.0 - lease.0,
            CompareTarget::Value(value) if kv.value == *value => 0,
            CompareTarget::Value(value) if kv.value < *value => -1,
            CompareTarget::Value(_) => 1,
            CompareTarget::Unknown => 0,
        };
        match compare.result {
            CompareResult::Equal => order == 0,
            CompareResult::NotEqual => order != 0,
            CompareResult::Greater => order > 0,
            CompareResult::Less => order < 0,
            CompareResult::Unknown => true,
        }
    }
}
