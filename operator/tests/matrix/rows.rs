//! The rows of the fault matrix: hazard, fault, guard, test and planted bug. Values only.
//!
//! Compiled twice: into the tests, and into the example that prints the document.

use quorate_operator::planted::Bug;

/// Hazards of the catalogue.
pub const HAZARDS: u8 = 60;

/// One hazard.
pub struct Row {
    pub hazard: u8,
    /// What could happen.
    pub what: &'static str,
    /// What keeps it from happening.
    pub guard: &'static str,
    /// What is done to provoke it.
    pub faults: &'static [Fault],
    pub proofs: &'static [Proof],
}

/// A test, and the guard without which it fails.
pub struct Proof {
    pub test: Test,
    /// `None`: the guard is in another crate, or in the shape of the code.
    pub bug: Option<Bug>,
}

/// Where a test is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Test {
    /// A script under `operator/tests/scripts`.
    Script(&'static str),
    /// A file from the root of the repository, and a function in it (or a script).
    In(&'static str, &'static str),
}

/// A seed of one of the two random tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seed {
    /// Of the planner's histories (`QUORATE_PLAN_SEED`).
    Plan(u64),
    /// Of the histories on Kubernetes (`QUORATE_PASS_SEED`).
    Pass(u64),
}

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    CrashAtEffect,
    ReplyLost,
    StaleRead,
    ReadFails,
    Conflict,
    TooMany,
    DoneAnd503,
    MemberUnreachable,
    MemberSlow,
    TwoOperators,
    SpecFlip,
    StatusLost,
    Wipe,
    ClaimLost,
    Kill,
    Evict,
    Partition,
    Unschedulable,
    NodeGone,
    SlowStop,
    LaggingLearner,
    Stranger,
    ForeignEdit,
    Recreated,
    LeaderMoves,
    BadTemplate,
    Rest,
    Rendered,
    StaleFiles,
    LocalDisk,
    SpecRefused,
    TransferRefused,
    Removed,
    Shuffled,
    BadSecret,
}

impl Fault {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Fault::CrashAtEffect => "crash before or after an effect",
            Fault::ReplyLost => "reply lost",
            Fault::StaleRead => "stale reads",
            Fault::ReadFails => "a read fails",
            Fault::Conflict => "409",
            Fault::TooMany => "429",
            Fault::DoneAnd503 => "503 after it was done",
            Fault::MemberUnreachable => "member unreachable",
            Fault::MemberSlow => "member slow",
            Fault::TwoOperators => "two operators",
            Fault::SpecFlip => "spec edited",
            Fault::StatusLost => "status lost",
            Fault::Wipe => "data wiped",
            Fault::ClaimLost => "claim lost",
            Fault::Kill => "member killed",
            Fault::Evict => "pod deleted",
            Fault::Partition => "partition",
            Fault::Unschedulable => "no place for a pod",
            Fault::NodeGone => "machine gone",
            Fault::SlowStop => "a pod stops slowly",
            Fault::LaggingLearner => "learner lags",
            Fault::Stranger => "somebody else adds a member",
            Fault::ForeignEdit => "somebody else edits",
            Fault::Recreated => "deleted and made again",
            Fault::LeaderMoves => "leadership moves",
            Fault::BadTemplate => "bad template",
            Fault::Rest => "nothing happens",
            Fault::Rendered => "(as rendered)",
            Fault::StaleFiles => "a pod keeps old files",
            Fault::LocalDisk => "disk of a node",
            Fault::SpecRefused => "a spec that is refused",
            Fault::TransferRefused => "the leader cannot hand over",
            Fault::Removed => "somebody else removes a member",
            Fault::Shuffled => "answers in another order",
            Fault::BadSecret => "a Secret that is missing or wrong",
        }
    }
}

const fn row(
    hazard: u8,
    what: &'static str,
    guard: &'static str,
    faults: &'static [Fault],
    proofs: &'static [Proof],
) -> Row {
    Row {
        hazard,
        what,
        guard,
        faults,
        proofs,
    }
}

const fn script(name: &'static str, bug: Bug) -> Proof {
    Proof {
        test: Test::Script(name),
        bug: Some(bug),
    }
}

const fn test(file: &'static str, name: &'static str, bug: Bug) -> Proof {
    Proof {
        test: Test::In(file, name),
        bug: Some(bug),
    }
}

const fn elsewhere(file: &'static str, name: &'static str) -> Proof {
    Proof {
        test: Test::In(file, name),
        bug: None,
    }
}

const PASSES: &str = "operator/tests/kubernetes/passes.rs";
const REQUESTS: &str = "operator/tests/kubernetes/requests.rs";
const REFUSED: &str = "operator/tests/kubernetes/refused.rs";
const SETTINGS: &str = "operator/tests/kubernetes/settings.rs";
const HAZARD: &str = "operator/tests/kubernetes/hazards.rs";
const CERTIFICATES: &str = "operator/tests/kubernetes/certificates.rs";
const OBJECTS: &str = "operator/tests/kubernetes/objects.rs";
const CONVERGENCE: &str = "operator/tests/convergence.rs";
const ACCESS: &str = "operator/src/platform/kubernetes/access.rs";
const WATCH: &str = "operator/src/process/watch.rs";
const QUEUE: &str = "operator/src/process/queue.rs";
const REPLICA: &str = "node/src/replica/tests/mod.rs";

const TWO_OPERATORS: &str = "two_operators_at_once_found_one_cluster";
const LATE: &str = "what_was_decided_before_another_operator_went_on_is_refused";
const ANY_WRITE: &str = "a_fault_at_any_write_changes_nothing_about_the_end";
const ANY_CALL: &str = "a_fault_at_any_call_to_a_member_changes_nothing_about_the_end";
const READ_FAILS: &str = "a_read_that_fails_is_neither_an_absence_nor_a_success";

/// The first seed of the random tests that finds a planted bug. Whoever changes how a seed is drawn
/// makes these numbers mean other histories: `cargo xtask faults --seeds` finds them anew.
pub const SEEDS: &[(Bug, Seed)] = &[
    (Bug::SameIdOnNewDisk, Seed::Plan(1)),
    (Bug::SlotsBeforeMembership, Seed::Plan(0)),
    (Bug::EverybodyMustBeWell, Seed::Plan(1)),
];

/// The matrix.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row(1, "Pods that start together found several clusters behind one Service",
        "one instruction to one slot, latched with the resourceVersion of the read; nodes wait for it",
        &[Fault::TwoOperators, Fault::CrashAtEffect, Fault::ReplyLost, Fault::Conflict, Fault::TooMany, Fault::DoneAnd503], &[
        test(HAZARD, LATE, Bug::RecordWithoutVersion),
        elsewhere(PASSES, ANY_WRITE),
        elsewhere(REPLICA, "an_unjoined_node_serves_nothing_and_bootstraps_once"),
    ]),
    row(2, "A member that lost its disk founds a cluster of its own and takes writes",
        "the instruction names a volume and a directory; another one stops the plan for a human",
        &[Fault::Wipe, Fault::ClaimLost], &[
        script("p33_h02_wiped_after_issued", Bug::BootstrapAgain),
        elsewhere("operator/tests/scripts/p33_h03_volume_gone_after_issued.txt", ""),
        elsewhere("node/src/server/tests/http.rs", "an_unjoined_node_is_alive_not_ready_and_says_why_it_serves_nothing"),
    ]),
    row(3, "Two members without data outvote the third and replace the one good log",
        "nothing is changed without a quorum of members that have their data; peers compare identities",
        &[Fault::Wipe, Fault::MemberUnreachable], &[
        script("p36_no_quorum", Bug::RemoveWithoutQuorum),
        elsewhere(REPLICA, "c12_a_wiped_directory_under_an_old_identity_never_takes_part_again"),
    ]),
    row(4, "A voter that forgot its vote and its log answers again under its old ID",
        "a new disk is a new member ID; a directory that is an older copy of itself is refused",
        &[Fault::ClaimLost, Fault::LocalDisk], &[
        test(PASSES, "a_claim_that_is_deleted_with_its_pod_costs_one_member_and_is_made_good", Bug::SameIdOnNewDisk),
        elsewhere(REPLICA, "c12_a_rolled_back_directory_is_refused_by_its_peers"),
    ]),
    row(5, "A cluster made again under the same name mounts the claims of the old one",
        "claims carry cluster and owner; a foreign stamp stops the plan",
        &[Fault::Recreated], &[
        test(PASSES, "deleted_with_retain_it_keeps_claims_that_the_next_of_its_name_does_not_touch", Bug::ForeignStampIsOurs),
    ]),
    row(6, "A list of members in the template is old before a pod reads it",
        "no template, setting or flag names members or their number; `Join` carries seeds",
        &[Fault::Rendered], &[
        test(OBJECTS, "what_does_not_concern_pods_leaves_the_template_as_it_is", Bug::MembersInTemplate),
    ]),
    row(7, "Half an answer about the membership is stored as truth",
        "only the exact membership, the first member alone, is latched",
        &[Fault::Stranger], &[
        script("h07_founded_with_a_stranger", Bug::LatchAnyMembership),
    ]),
    row(8, "A member that cannot be reached is taken for one that does not exist",
        "what was not read is `Unknown`, and no rule takes it for an absence",
        &[Fault::MemberUnreachable, Fault::MemberSlow], &[
        test(PASSES, "members_that_are_slow_to_answer_are_neither_replaced_nor_called_a_lost_quorum", Bug::TimeoutIsAbsence),
        script("h09_h59_timeout_is_no_evidence", Bug::TimeoutIsAbsence),
    ]),
    row(9, "The second voter never starts, and the first can commit nothing",
        "a learner first, always; it is promoted only once it has joined and caught up",
        &[Fault::Unschedulable, Fault::MemberUnreachable], &[
        script("h09_learner_that_never_starts", Bug::PromoteUnasked),
        test(HAZARD, "a_member_is_added_and_never_asked_to_vote_while_its_pod_finds_no_place", Bug::PromoteUnasked),
    ]),
    row(10, "The operator dies around an addition: a member without a pod, or a second member",
        "the intent with the ID is written first; every pass goes on with that ID",
        &[Fault::CrashAtEffect, Fault::ReplyLost, Fault::Conflict, Fault::TooMany, Fault::DoneAnd503], &[
        script("p34_g05_reply_to_member_add_lost", Bug::FreshIdOnRetry),
        elsewhere(PASSES, ANY_WRITE),
    ]),
    row(11, "The operator dies before the first status: nothing handles an object without one",
        "an empty status is a valid state; stamped claims without a record stop the plan",
        &[Fault::StatusLost, Fault::CrashAtEffect], &[
        test(HAZARD, "a_status_that_is_lost_founds_no_second_cluster", Bug::ForeignStampIsOurs),
    ]),
    row(12, "An addition that timed out was made, and the repetition adds a ghost",
        "the caller chooses the ID and names the config index; the same request again is a success",
        &[Fault::ReplyLost, Fault::MemberSlow, Fault::MemberUnreachable], &[
        test(PASSES, ANY_CALL, Bug::FreshIdOnRetry),
        elsewhere(REPLICA, "a_learner_joins_is_promoted_and_a_removed_member_stays_out"),
    ]),
    row(13, "Several learners block each other",
        "one learner at a time, by the planner and by the leader; changes name the config index",
        &[Fault::Stranger], &[
        script("h13_second_learner", Bug::TwoLearners),
        elsewhere("raft/tests/scripts/c02_one_change_at_a_time.txt", ""),
    ]),
    row(14, "A learner that lags becomes a voter",
        "the leader compares its match with what is committed",
        &[Fault::LaggingLearner], &[
        script("h14_promotion_waits_for_match", Bug::PromoteWithoutMatch),
        elsewhere("raft/tests/scripts/c13_promotion_only_when_caught_up.txt", ""),
    ]),
    row(15, "A learner never catches up and the cluster is stuck for ever",
        "a deadline in the intent; then the learner is removed and a pause follows",
        &[Fault::MemberUnreachable], &[
        script("h15_learner_stuck", Bug::LearnerForever),
    ]),
    row(16, "A member cut off answers with a membership of the past",
        "only linearizable answers count, and none with a lower config index than one seen",
        &[Fault::StaleRead], &[
        script("h16_stale_membership", Bug::TrustStaleMembership),
    ]),
    row(17, "Members added at once, none of them started, stop the quorum",
        "an operation in flight keeps others from beginning",
        &[Fault::MemberUnreachable], &[
        script("h09_learner_that_never_starts", Bug::TwoAtOnce),
    ]),
    row(18, "A list ordered as text, or joined by position, names the wrong victim",
        "members are matched by ID, slots are numbers",
        &[Fault::SpecFlip], &[
        script("h18_ten_and_more", Bug::SlotsAsText),
    ]),
    row(19, "The set shrinks before the membership, and voters vanish",
        "the set is lowered only after a linearizable read without the member",
        &[Fault::SpecFlip], &[
        test(CONVERGENCE, "every_size_leads_to_every_other_and_the_slots_follow_the_members", Bug::SlotsBeforeMembership),
    ]),
    row(20, "A removed member whose pod starts again adds itself",
        "nodes never add themselves; a slot does not run on the volume of a removed member",
        &[Fault::Removed, Fault::Kill], &[
        script("h20_removed_and_dead", Bug::RemovedComesBack),
        elsewhere("node/src/storage/identity.rs", "a_removed_member_stays_removed"),
    ]),
    row(21, "The spec changes its mind midway",
        "every pass reads the spec; before the removal an operation is given up, afterwards finished",
        &[Fault::SpecFlip, Fault::LeaderMoves], &[
        script("p35_revert_before_removal", Bug::RevertIsIgnored),
        script("p38_repeated", Bug::RequestsRepeat),
        test(REQUESTS, "p38_leadership_moves_once_however_often_the_same_words_are_applied", Bug::RequestsRepeat),
        test(HAZARD, "a_spec_that_changes_its_mind_at_any_moment_ends_where_it_would_have_anyway", Bug::StoredSpec),
    ]),
    row(22, "A healthy member is removed while another is down",
        "the quorum of the membership that results, among those who are well",
        &[Fault::MemberUnreachable, Fault::SpecFlip], &[
        script("h22_healthy_member_not_removed", Bug::OldMembershipOnly),
    ]),
    row(23, "The sick member cannot be removed because it is sick",
        "gates ask for a quorum, never for everybody",
        &[Fault::MemberUnreachable, Fault::SpecFlip], &[
        script("h23_sick_member_can_be_removed", Bug::EverybodyMustBeWell),
    ]),
    row(24, "One of the last two dies before the other has learned of the removal",
        "both are well and the survivor leads, or nothing is done",
        &[Fault::LeaderMoves, Fault::TransferRefused, Fault::MemberUnreachable], &[
        script("h24_survivor_must_lead", Bug::SurvivorNeedNotLead),
        script("h24_two_to_one_needs_both", Bug::RemoveWithoutQuorum),
    ]),
    row(25, "The removal of the leader stalls",
        "one attempt to hand over in a term, then the removal goes on",
        &[Fault::LeaderMoves, Fault::TransferRefused], &[
        script("h25_transfer_refused", Bug::TransferForever),
    ]),
    row(26, "A repetition finds its work done and fails",
        "absence is success for a removal, presence for an addition and a promotion",
        &[Fault::ReplyLost, Fault::TwoOperators], &[
        test(HAZARD, "a_change_that_was_made_already_is_a_success", Bug::NotFoundIsAnError),
    ]),
    row(27, "Deletion waits for a quorum that is gone",
        "deletion asks no member",
        &[Fault::MemberUnreachable, Fault::SpecRefused], &[
        script("h27_deletion_needs_no_quorum", Bug::DeletionNeedsQuorum),
        test(REFUSED, "h27_a_cluster_whose_spec_is_refused_can_be_deleted", Bug::InvalidIsForever),
    ]),
    row(28, "The alarm of a removed member remains",
        "no member raises alarms in this version: there are none to remain",
        &[Fault::Rest], &[
        elsewhere("node/src/server/tests/grpc.rs", "maintenance_answers_what_etcdctl_asks"),
    ]),
    row(29, "The claim of a removed member is used again as it is",
        "it is deleted, or its directory is displaced by name",
        &[Fault::SpecFlip], &[
        script("h29_kept_volume", Bug::AnyVolumeOfOurs),
    ]),
    row(30, "A claim is deleted while its pod runs",
        "shrinking waits for the pod to be gone",
        &[Fault::SlowStop, Fault::SpecFlip], &[
        test(HAZARD, "a_claim_outlives_its_pod_when_the_cluster_shrinks", Bug::ClaimBeforePod),
    ]),
    row(31, "Every drain costs a member because stopping removes it",
        "the membership never follows pods; a pod that stops only hands over",
        &[Fault::Evict], &[
        test(HAZARD, "pods_that_are_deleted_one_after_the_other_leave_the_membership_as_it_is", Bug::PodGoneIsMemberLost),
        elsewhere(OBJECTS, "a_lost_quorum_restarts_nobody_and_all_start_at_once"),
    ]),
    row(32, "The deletion of a predecessor is replayed on the cluster of the same name",
        "every deletion names the UID it was decided on",
        &[Fault::Recreated, Fault::StaleRead, Fault::TwoOperators], &[
        test(HAZARD, "a_deletion_that_comes_late_does_not_touch_the_next_cluster_of_that_name", Bug::DeleteWhateverIsThere),
    ]),
    row(33, "A stale size, or pods that are gone for a moment, shrink the set",
        "the set is raised to what the members need and lowered by the protocol only",
        &[Fault::ForeignEdit, Fault::MemberUnreachable], &[
        script("h33_lost_slots_are_raised", Bug::SlotsAreNotRaised),
    ]),
    row(34, "The machine of a local volume is gone and the pod waits for ever",
        "it is reported, and replaced only where the spec says so",
        &[Fault::NodeGone, Fault::MemberUnreachable], &[
        script("h34_machine_gone", Bug::NodeGoneIsReplaced),
    ]),
    row(35, "The set is gone in the middle of a change, and comes back too small",
        "it is made again for the members there are, never from the spec; its pods stay",
        &[Fault::ForeignEdit, Fault::SpecFlip], &[
        script("h35_set_deleted", Bug::SlotsFromSpec),
        script("p312_h35_smaller_while_the_set_is_away", Bug::SlotsFromSpec),
        test(PASSES, "h35_volumes_grow_and_the_set_is_made_anew_around_its_pods", Bug::SetTakesItsPods),
    ]),
    row(36, "A healthy pod is restarted while another is down",
        "`OnDelete`, and a gate on live facts before each stop",
        &[Fault::MemberUnreachable, Fault::SpecFlip], &[
        script("h36_one_is_down", Bug::StopWithoutGate),
        script("p312_r02_remount_keeps_quorum", Bug::RemountWithoutGate),
    ]),
    row(37, "The disruption budget follows the members that are left",
        "a whole number: the quorum of the larger of what is there and what is wanted",
        &[Fault::Rendered], &[
        test(OBJECTS, "the_budget_is_the_quorum_of_the_larger_of_what_is_and_what_is_wanted", Bug::BudgetFollowsTheLiving),
    ]),
    row(38, "The budget counts learners and removed members",
        "it selects by a label that follows the membership",
        &[Fault::SpecFlip, Fault::LeaderMoves], &[
        script("h38_label_of_a_removed_member", Bug::RemovedKeepsItsLabel),
    ]),
    row(39, "The budget keeps a broken pod on a machine that is drained",
        "`IfHealthyBudget`",
        &[Fault::Rendered], &[
        test(OBJECTS, "what_may_be_evicted_follows_from_voters_size_and_health", Bug::BudgetBlocksTheBroken),
    ]),
    row(40, "A lost quorum makes the kubelet kill every member",
        "liveness is the process, readiness the quorum",
        &[Fault::Rendered], &[
        test(OBJECTS, "a_lost_quorum_restarts_nobody_and_all_start_at_once", Bug::LivenessNeedsQuorum),
        elsewhere("node/src/server/tests/http.rs", "an_unjoined_node_is_alive_not_ready_and_says_why_it_serves_nothing"),
    ]),
    row(41, "After an outage the first pod waits for peers that are never started",
        "`podManagementPolicy: Parallel`",
        &[Fault::Rendered], &[
        test(OBJECTS, "a_lost_quorum_restarts_nobody_and_all_start_at_once", Bug::OneAfterTheOther),
    ]),
    row(42, "Another operator version rolls every cluster",
        "the set carries a digest of the spec it was made from; while that stays, so does the template",
        &[Fault::ForeignEdit, Fault::Rendered], &[
        test(HAZARD, "another_operator_version_rolls_no_cluster", Bug::OperatorChangeRolls),
        elsewhere(OBJECTS, "a_cluster_of_defaults_renders_as_it_did"),
    ]),
    row(43, "Settings change under pods that run",
        "they lie in an immutable ConfigMap named by its content",
        &[Fault::SpecFlip, Fault::SpecRefused], &[
        test(PASSES, "a_changed_template_begins_every_pod_anew_leader_last", Bug::ConfigInPlace),
        test(REFUSED, "h43_a_spec_that_is_refused_reaches_no_object", Bug::RefusedSpecRendered),
        test(SETTINGS, "p38_settings_reach_every_member_and_no_pod_ends_for_them", Bug::HotSettingsInTemplate),
        script("p38_settings_pushed", Bug::SettingsUnconfirmed),
    ]),
    row(44, "A bad template is stuck because nobody is well",
        "outdated pods that do not serve are begun anew without a gate",
        &[Fault::BadTemplate], &[
        script("h44_bad_from_the_start", Bug::BrokenMustBeWell),
    ]),
    row(45, "Leadership moves between the check and the stop",
        "the leader is read in the same pass and goes last; the leader is asked right before each stop",
        &[Fault::LeaderMoves, Fault::SpecFlip], &[
        script("h45_leader_moves", Bug::LeaderLikeAnybody),
        script("p37_r05_followers_from_the_top", Bug::StopWithoutAsking),
    ]),
    row(46, "A node cannot resolve its own name before it is ready",
        "the headless Service publishes unready pods",
        &[Fault::Rendered], &[
        test(OBJECTS, "a_lost_quorum_restarts_nobody_and_all_start_at_once", Bug::HideUnready),
    ]),
    row(47, "Encryption is asked for and not in force",
        "nothing starts without the certificates that were asked for, and no authority is replaced \
         before every member trusts the next",
        &[Fault::CrashAtEffect, Fault::Conflict, Fault::TooMany, Fault::DoneAnd503, Fault::StaleFiles, Fault::BadSecret], &[
        test(CERTIFICATES, "everything_is_encrypted_before_the_first_pod_begins", Bug::BeginWithoutCertificates),
        test(CERTIFICATES, "what_somebody_brings_is_checked_before_members_meet_it", Bug::BroughtUnseen),
        test(CERTIFICATES, "a_member_that_takes_no_files_holds_the_phase_and_is_named", Bug::LeafBeforeTrust),
        elsewhere(CERTIFICATES, "the_authorities_change_in_three_phases_that_every_member_confirms"),
        elsewhere(CERTIFICATES, "a_fault_at_any_write_of_certificates_changes_nothing_about_the_end"),
        elsewhere("node/src/server/tests/tls.rs", "plaintext_is_refused_on_both_ports_and_told_why"),
    ]),
    row(48, "The cluster's domain is not cluster.local",
        "names end where every resolver completes them, or in the domain of the spec",
        &[Fault::Rendered], &[
        test(OBJECTS, "every_name_of_a_member_ends_in_the_domain_that_was_asked_for", Bug::DomainIsFixed),
    ]),
    row(49, "Reads that lag behind one's own writes repeat them",
        "names are fixed, and every change names the version it was decided on",
        &[Fault::StaleRead, Fault::TwoOperators], &[
        test(HAZARD, LATE, Bug::SizeWithoutVersion),
        elsewhere(PASSES, "reads_that_lag_behind_lead_to_the_same_end"),
    ]),
    row(50, "A list that is incomplete is taken for an absence",
        "watches only wake; every pass reads live, and a failed read is `Unknown`",
        &[Fault::ReadFails], &[
        test(HAZARD, READ_FAILS, Bug::FailedListIsEmpty),
    ]),
    row(51, "Two operators act at once",
        "every effect is bound to a UID or a version, every record to the version read",
        &[Fault::TwoOperators, Fault::Conflict], &[
        test(HAZARD, LATE, Bug::RecordWithoutVersion),
        test(HAZARD, LATE, Bug::SizeWithoutVersion),
        elsewhere(PASSES, TWO_OPERATORS),
    ]),
    row(52, "The client repeats a call that was done, or hangs in its own pauses",
        "a call is made once, with a time limit; what is there already is a success",
        &[Fault::TooMany, Fault::DoneAnd503, Fault::CrashAtEffect, Fault::Conflict], &[
        test(ACCESS, "a_server_that_asks_for_patience_gets_one_call_and_a_pass_ends_at_once", Bug::ClientRetries),
        elsewhere(PASSES, ANY_WRITE),
    ]),
    row(53, "One object that cannot be decoded stops the watch on all",
        "watches carry metadata only; the object itself says what is wrong",
        &[Fault::ForeignEdit], &[
        test(HAZARD, "an_object_that_cannot_be_read_says_so_and_hides_no_other", Bug::UnreadableIsIgnored),
        elsewhere(WATCH, "an_object_that_cannot_be_decoded_hides_no_other"),
    ]),
    row(54, "One cluster that never becomes ready delays all others",
        "a pass never waits; a cluster has one pass at a time and no more than its share",
        &[Fault::MemberSlow], &[
        test(QUEUE, "one_that_never_ends_delays_no_other_and_is_not_begun_twice", Bug::OneClusterAtATime),
        elsewhere(HAZARD, "nodes_that_never_answer_cost_a_pass_little_and_nobody_a_place"),
    ]),
    row(55, "The operator's own writes wake it for ever",
        "the status is written when it says something new",
        &[Fault::Rest], &[
        test(PASSES, "from_nothing_to_three_voters_and_then_quiet", Bug::StatusOnEveryPass),
    ]),
    row(56, "The status still says what was true before everything failed",
        "it is computed on every pass from what was read, `Unknown` otherwise",
        &[Fault::ReadFails], &[
        test(HAZARD, READ_FAILS, Bug::StatusOnSuccessOnly),
    ]),
    row(57, "Health is attached by position in a list",
        "maps are keyed by member ID",
        &[Fault::Shuffled], &[
        test(HAZARD, "the_order_of_members_in_an_answer_changes_nothing", Bug::HealthByPosition),
    ]),
    row(58, "The tag of an image is read where the port of its registry is",
        "an image is never taken apart; the version is a field of its own",
        &[Fault::Rendered], &[
        test(OBJECTS, "an_image_is_taken_as_it_is", Bug::ImageTakenApart),
    ]),
    row(59, "A partition that heals has cost data because recovery began by itself",
        "a human's word alone begins one, after a lasting outage; every life of the old epoch ends first",
        &[Fault::MemberUnreachable, Fault::Partition, Fault::Wipe, Fault::ClaimLost, Fault::SlowStop], &[
        script("h09_h59_timeout_is_no_evidence", Bug::TimeoutIsAbsence),
        script("p39_h59_never_by_itself", Bug::RecoverUnasked),
        script("p39_waits_for_the_outage_to_last", Bug::RecoverAtOnce),
        script("p39_h59_one_may_still_serve", Bug::RecoverBesideOthers),
        elsewhere("node/src/replica/tests/recover.rs", "p39_the_old_majority_that_comes_back_serves_nobody"),
    ]),
    row(60, "Somebody scales or edits the StatefulSet by hand",
        "the template is replaced as a whole, the size raised at once and lowered by the protocol",
        &[Fault::ForeignEdit], &[
        test(PASSES, "what_somebody_edits_is_put_back", Bug::ForeignTemplateStays),
        script("h33_lost_slots_are_raised", Bug::SlotsAreNotRaised),
    ]),
];
