//! Every error code has a test that provokes it, or a reason why there is none.

use std::collections::BTreeMap;

use host::base::error::Code;
use tests::repository;

/// Each code, and the test that provokes it.
const PROVOKED: &[(Code, &str)] = &[
    (Code::ModuleInvalid, "h1_a_file_cut_anywhere_is_refused"),
    (Code::NotAComponent, "h1_h5_h12_files_that_are_no_component_are_refused"),
    (Code::ModuleTooLarge, "h3_files_larger_than_the_caps_are_refused_before_they_are_compiled"),
    (Code::ModuleFeature, "h7_features_that_are_off_are_refused"),
    (Code::SnapshotUnsafe, "h8_state_that_an_image_does_not_hold_is_refused"),
    (Code::ComponentNested, "guests_composed_in_ways_that_the_barrier_cannot_follow_are_refused"),
    (Code::ImportUnknown, "h6_imports_that_the_host_does_not_offer_are_refused_by_name"),
    (Code::World, "h6_imports_that_the_host_does_not_offer_are_refused_by_name"),
    (Code::MemoryLimit, "h9_a_memory_over_the_budget_is_refused_at_the_start"),
    (
        Code::TableLimit,
        "h9_memories_and_tables_out_of_range_are_refused_before_anything_is_allocated",
    ),
    (Code::CompileLimit, "h4_functions_that_take_a_compiler_too_long_are_refused"),
    (Code::ContractInvalid, "descriptions_that_cannot_be_used_are_refused"),
    (Code::Init, "inits_that_crash_or_refuse_are_reported_with_the_guests_words"),
    (Code::Budget, "r4_s4_22_budgets_over_the_limit_are_refused_with_the_bill"),
    (Code::BudgetSize, "s4_15_no_daemons_and_ones_that_cannot_be_are_refused"),
    (Code::Name, "s4_15_no_daemons_and_ones_that_cannot_be_are_refused"),
    (
        Code::Unavailable,
        "s0_01_a_request_whose_resource_is_down_is_refused_and_the_next_one_succeeds",
    ),
    (Code::HandleStale, "s0_02_s0_10_exactly_the_transactions_with_a_lease_are_cancelled"),
    (Code::ResourceUnknown, "s0_06_a_drill_takes_a_resource_down_and_lets_go_of_it"),
    (Code::ResourceFixed, "a_drill_of_what_is_a_part_of_the_host_is_refused"),
    (Code::NoMemory, "r2_memory_that_the_machine_does_not_give_is_refused_and_nothing_is_left"),
    (Code::Engine, "a_compiler_that_cannot_be_started_is_the_environments_fault"),
    (Code::Request, "c8_request_lines_that_are_none_are_refused"),
    (Code::DaemonUnknown, "c8_s0_14_requests_that_fit_nothing_are_refused_before_anything_starts"),
    (
        Code::ContractUnknown,
        "c8_s0_14_requests_that_fit_nothing_are_refused_before_anything_starts",
    ),
    (Code::Args, "c8_s0_14_requests_that_fit_nothing_are_refused_before_anything_starts"),
    (Code::KeyConflict, "keys_give_the_first_answer_again_and_conflict_with_another_request"),
    (Code::QueueFull, "r6_a_full_mailbox_refuses_and_says_so"),
    (
        Code::Restarts,
        "r9_a_daemon_that_dies_as_soon_as_it_begins_starves_nobody_and_ends_as_its_policy_says",
    ),
    (Code::Parked, "s4_04_a_guest_that_dies_in_recover_falls_back_and_is_parked_at_last"),
    (Code::Disabled, "s4_29_a_disabled_contract_refuses_new_cancels_running_and_holds_queued"),
    (Code::NoTransaction, "s4_29_a_kill_hits_its_transaction_and_never_the_next_one"),
    (Code::Stopping, "s2_26_r10_a_spinning_guest_is_cancelled_when_the_root_stops"),
    (Code::Cancelled, "a_cancelled_transaction_says_so"),
    (Code::Fuel, "c1_endless_loops_end_by_fuel"),
    (Code::Deadline, "c1_s2_23_an_endless_loop_with_much_fuel_ends_at_its_deadline"),
    (Code::Unreachable, "s4_03_each_trap_of_a_guest_has_its_code"),
    (Code::OutOfMemory, "s4_02_s4_03_every_way_to_die_has_its_code_and_leaves_no_trace"),
    (Code::MemoryTrap, "s4_03_each_trap_of_a_guest_has_its_code"),
    (Code::StackTrap, "c2_recursion_without_end_is_a_trap_of_its_own"),
    (Code::Arithmetic, "s4_03_each_trap_of_a_guest_has_its_code"),
    (Code::IndirectCall, "s4_03_each_trap_of_a_guest_has_its_code"),
    (Code::OtherTrap, "c7_a_guest_that_calls_out_while_it_is_being_written_to_traps"),
    (Code::HandleLeak, "c9_a_guest_that_gives_its_stream_away_is_rolled_back"),
    (Code::Handle, "c9_a_guest_that_gives_its_stream_away_is_rolled_back"),
    (Code::HostcallLimit, "c6_storms_and_huge_transfers_end_by_their_limits"),
    (Code::HostcallArgs, "c5_host_calls_check_pointers_lengths_and_values"),
    (Code::HostcallUnsupported, "waiting_and_leaving_are_not_possible_in_a_transaction"),
    (Code::OutputRange, "s4_16_a_guest_that_shows_what_it_must_not_crashes_alone"),
    (Code::UpgradeSame, "u2_what_cannot_be_an_upgrade_is_refused_before_anything_runs"),
    (Code::UpgradeForm, "u2_what_cannot_be_an_upgrade_is_refused_before_anything_runs"),
    (Code::UpgradeVersion, "u2_what_cannot_be_an_upgrade_is_refused_before_anything_runs"),
    (Code::UpgradeSave, "u2_code_that_fails_to_save_runs_on_and_says_so"),
    (Code::UpgradeLoad, "u2_whatever_fails_in_the_new_code_leaves_the_old_one_as_it_was"),
    (Code::UpgradeCheck, "u2_whatever_fails_in_the_new_code_leaves_the_old_one_as_it_was"),
    (Code::UpgradeLoss, "u2_what_new_code_would_drop_is_named_and_wants_to_be_accepted"),
    (Code::ResultShape, "s0_13_a_result_of_another_shape_fails_the_transaction"),
    (Code::AnswerTooLarge, "an_answer_is_shown_up_to_its_limit_and_counted_until_it_is_read"),
    (Code::CommitTooLarge, "c16_a_commit_that_no_record_holds_is_refused_before_it_is_applied"),
    (Code::HostBug, "c14_a_panic_of_the_host_crashes_the_transaction_and_the_second_parks"),
    (Code::NoCommit, "a_fork_goes_its_own_way_and_is_durable"),
    (Code::DaemonExists, "a_fork_goes_its_own_way_and_is_durable"),
    (Code::Stateless, "what_needs_a_state_is_refused_at_a_stateless_daemon"),
    (Code::DaemonFile, "a_fork_goes_its_own_way_and_is_durable"),
    (Code::NoCrash, "what_cannot_be_run_again_says_why"),
    (Code::MemoryOnly, "a_snapshot_is_restored_on_another_host"),
    (Code::Snapshot, "a_snapshot_is_restored_on_another_host"),
    (Code::Barrier, "a_hole_in_the_barrier_is_found_and_parks_the_daemon"),
];

/// Codes that no test of this package provokes, and why.
const UNPROVOKED: &[(&str, &str)] = &[
    ("E_OPTION", "the command line has tests of its own"),
    ("E_MANIFEST", "manifests have tests of their own, and the command line has"),
    ("E_PARAMETER", "manifests have tests of their own, and the command line has"),
    ("E_CODE_CHANGED", "the durable command line has tests of its own"),
    ("E_DATA_DIR", "the durable command line has tests of its own"),
    ("E_DATA_DIR_LOCKED", "the durable command line has tests of its own"),
    ("E_FORMAT", "the journal has tests of its own"),
    ("E_STORE_FULL", "the journal has tests of its own"),
    ("E_STORE_IO", "the journal has tests of its own"),
    ("E_STORE_CORRUPT", "the journal has tests of its own"),
    ("E_STORE_POISONED", "the journal has tests of its own"),
    ("E_FILE", "the command line has tests of its own"),
    ("E_FILE_REFUSED", "the command line has tests of its own"),
    ("E_BUILD", "the command line has tests of its own"),
    ("E_SOCKET", "the command line has tests of its own"),
    ("E_NO_ANSWER", "the command line has tests of its own"),
    ("E_PROCESS_LIMIT", "the real binary has tests of its own, under `ulimit`"),
    ("E_HTTP", "the command line has tests of its own"),
    ("E_HOST_RUNNING", "the command line has tests of its own"),
    ("E_EMERGENCY", "the stop has tests of its own, on the real binary"),
    ("E_STOP_FORCED", "the stop has tests of its own, on the real binary"),
    ("E_STUCK", "the watchdog has a test of its own"),
];

#[test]
fn every_code_is_provoked_by_a_test_that_exists() {
    let mut text = String::new();
    for entry in std::fs::read_dir(repository().join("tests/tests/host")).unwrap() {
        let path = entry.unwrap().path();
        // Not this file, where all the names stand.
        if path.is_file() && !path.ends_with("codes.rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    let provoked: BTreeMap<Code, &str> = PROVOKED.iter().copied().collect();
    assert_eq!(provoked.len(), PROVOKED.len(), "a code twice");
    for code in Code::ALL {
        let reason = UNPROVOKED.iter().find(|(name, _)| *name == code.as_str());
        match provoked.get(code) {
            Some(test) => {
                assert!(reason.is_none(), "{code} is provoked and isn't");
                assert!(text.contains(&format!("fn {test}(")), "{code}: there is no test {test}");
            }
            None => assert!(reason.is_some(), "no test provokes {code}"),
        }
    }
}
