//! Commits of before an upgrade: the present code can't go back to them, a copy can.

use super::{Running, code, next_ledger, stderr, stdout};

#[test]
fn commits_of_an_earlier_code_are_had_as_a_copy_and_that_is_said() {
    let running = Running::start(&["ledger"], &[]);
    running.host(&["call", "ledger", "deposit", "account=ann", "amount=7"]);
    let reach = || stdout(&running.host(&["checkpoints", "ledger"]));
    assert!(
        reach()
            .ends_with("any commit from 0 on can be reverted to, forked, saved and replayed on\n")
    );
    let next = next_ledger(&running.dir().join("next.wasm"));
    let upgraded = running.host(&["upgrade", "ledger", &next]);
    assert_eq!(code(&upgraded), 0, "{}", stderr(&upgraded));
    let said = reach();
    assert!(said.contains("any commit from 2 on can be reverted to; any from 0 on"), "{said}");
    let back = running.host(&["revert", "ledger", "--to", "1"]);
    assert!(stderr(&back).contains("E_CODE_CHANGED"), "{}", stderr(&back));
    // Both name what works.
    assert!(said.contains("`host fork ledger COPY --at N`"), "{said}");
    assert!(stderr(&back).contains("`host fork ledger COPY --at 1`"), "{}", stderr(&back));
    let copied = running.host(&["fork", "ledger", "copy", "--at", "1"]);
    assert_eq!(code(&copied), 0, "{}", stderr(&copied));
    assert_eq!(stdout(&running.host(&["call", "copy", "total"])), "7\n");
    let none = running.host(&["revert", "ledger", "--to", "9999"]);
    assert!(
        stderr(&none).contains("E_NO_COMMIT]: daemon `ledger`: commit 9999: "),
        "{}",
        stderr(&none)
    );
}
