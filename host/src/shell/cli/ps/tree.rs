//! `host ps --tree`: who is under whom, how often each ended, and how last.

use serde_json::Value;

use super::{list, state};
use crate::shell::cli::lineage::text;
use crate::shell::cli::table::{Align, Table};

/// The tree as a table: each node under its parent.
pub(super) fn tree(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("PARENT", Align::Left),
        ("KIND", Align::Left),
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("GENERATION", Align::Right),
        ("RESTARTS", Align::Right),
        ("LAST EXIT", Align::Left),
    ]);
    let root = answer.get("root").unwrap_or(&Value::Null);
    let name = format!("pid {}", text(root, "pid"));
    table.row(row(root, name, text(root, "state")));
    for component in list(answer, "components") {
        table.row(row(component, branch("", false, &text(component, "name")), state(component)));
    }
    let (daemons, transactions) = (list(answer, "daemons"), list(answer, "transactions"));
    for (place, daemon) in daemons.iter().enumerate() {
        let last = place + 1 == daemons.len();
        rows(&mut table, "", last, daemon, transactions);
    }
    table.to_string()
}

/// A daemon, or one of its instances or readers, with all that is under it.
fn rows(table: &mut Table, under: &str, last: bool, node: &Value, transactions: &[Value]) {
    table.row(row(node, branch(under, last, &text(node, "name")), state(node)));
    let under = format!("{under}{}", if last { "   " } else { "|  " });
    let id = node.get("id");
    let its = transactions.iter().filter(|transaction| transaction.get("parent") == id);
    let its: Vec<&Value> = its.collect();
    let members = ["instances", "readers"].iter().flat_map(|all| list(node, all));
    let members: Vec<&Value> = members.collect();
    for (place, member) in members.iter().enumerate() {
        let last = place + 1 == members.len() && its.is_empty();
        rows(table, &under, last, member, transactions);
    }
    for (place, transaction) in its.iter().enumerate() {
        let last = place + 1 == its.len();
        let name = branch(&under, last, &text(transaction, "contract"));
        table.row(row(transaction, name, state(transaction)));
    }
}

fn branch(under: &str, last: bool, name: &str) -> String {
    let arm = if last { "`- " } else { "|- " };
    format!("{under}{arm}{name}")
}

fn row(node: &Value, name: String, state: String) -> Vec<String> {
    let exit = node.get("last_exit").unwrap_or(&Value::Null);
    vec![
        text(node, "id"),
        text(node, "parent"),
        text(node, "kind"),
        name,
        state,
        text(node, "generation"),
        text(node, "restarts"),
        text(exit, "code"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn s4_33_each_node_stands_under_its_parent_with_its_last_exit() {
        let daemon = |id: u64, name: &str, exit: Value| {
            json!({
                "id": id, "parent": 1, "kind": "daemon", "name": name, "state": "ready",
                "generation": 2, "restarts": 1, "last_exit": exit,
                "off": { "paused": true, "disabled": false, "contracts": ["pay"] },
            })
        };
        let answer = json!({
            "root": { "id": 1, "kind": "root", "pid": 42, "state": "running", "generation": 1 },
            "daemons": [
                daemon(2, "bank", json!({ "code": "E_FUEL" })),
                { "id": 4, "parent": 1, "kind": "daemon", "name": "rate", "state": "running",
                  "generation": 1, "restarts": 0, "instances": [
                    { "id": 5, "parent": 4, "kind": "instance", "name": "rate/0",
                      "state": "ready", "generation": 1, "restarts": 0 },
                    { "id": 6, "parent": 4, "kind": "instance", "name": "rate/1",
                      "state": "running", "generation": 1, "restarts": 0 },
                ] },
                {
                    "id": 3, "parent": 1, "kind": "daemon", "name": "shop", "state": "running",
                    "generation": 2, "restarts": 1, "readers": [
                    { "id": 7, "parent": 3, "kind": "reader", "name": "shop/reader-0",
                      "state": "ready", "generation": 1, "restarts": 0 },
                ] },
            ],
            "transactions": [
                {
                    "id": "0b", "parent": 6, "kind": "transaction", "contract": "look",
                    "state": "running", "running_us": 8, "generation": 1,
                },
                {
                    "id": "0a", "parent": 3, "kind": "transaction", "contract": "buy",
                    "state": "running", "running_us": 7, "generation": 2,
                },
            ],
        });
        let lines = [
            "ID  PARENT  KIND         NAME        STATE                           GENERATION  \
             RESTARTS  LAST EXIT",
            "1   -       root         pid 42      running                                  1         -  -",
            "2   1       daemon       |- bank     ready, paused, partly disabled           2         \
             1  E_FUEL",
            "4   1       daemon       |- rate     running, 1 of 2 busy                   1         0  -",
            "5   4       instance     |  |- rate/0   ready                               1         0  -",
            "6   4       instance     |  `- rate/1   running                             1         0  -",
            "0b  6       transaction  |     `- look  running 8 us                        1         -  -",
            "3   1       daemon       `- shop     running, 0 of 1 readers busy             2         1  -",
            "7   3       reader          |- shop/reader-0  ready                           1         0  -",
            "0a  3       transaction     `- buy   running 7 us                             2         -  -",
        ];
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let tree = tree(&answer);
        assert_eq!(tree.lines().count(), lines.len(), "{tree}");
        for (line, expected) in tree.lines().zip(lines) {
            assert_eq!(squeezed(line), squeezed(expected), "{tree}");
        }
        let place = |name: &str| tree.lines().find_map(|line| line.find(name)).unwrap();
        assert_eq!(place("buy"), place("shop") + 3, "{tree}");
    }
}
