//! The SDK's macro refuses exactly the names that the host would.

use host::pure::contract::{Contract, Schema, check_contracts};
use host::pure::setting::is_name;
use proptest::prelude::*;

/// The macro's own rule.
#[path = "../../../guest-sdk/macros/src/names.rs"]
mod rule;

fn admitted(name: &str) -> bool {
    check_contracts(&[contract(0, name)]).is_ok()
}

fn contract(index: u32, name: &str) -> Contract {
    Contract {
        index,
        name: name.to_owned(),
        documentation: String::new(),
        read_only: true,
        needs: Vec::new(),
        arguments: Vec::new(),
        result: Schema::parse("{}").unwrap(),
    }
}

proptest! {
    #[test]
    fn a_name_is_refused_when_it_is_written_or_never(
        name in prop_oneof!["[a-zA-Z0-9_-]{0,70}", ".{0,3}", "[a-z]{0,3}.[a-z0-9]{0,3}"],
    ) {
        prop_assert_eq!(rule::check(&name).is_ok(), admitted(&name), "{:?}", name);
        prop_assert_eq!(rule::check_resource(&name).is_ok(), is_name(&name), "{:?}", name);
    }
}

#[test]
fn there_is_room_for_as_many_as_the_macro_says() {
    let contracts = |count: usize| -> Vec<_> {
        (0..).take(count).map(|index| contract(index, &format!("c{index}"))).collect()
    };
    assert!(check_contracts(&contracts(rule::CONTRACTS_MAX)).is_ok());
    assert!(check_contracts(&contracts(rule::CONTRACTS_MAX + 1)).is_err());
    assert_eq!(rule::ARGUMENTS_MAX, host::base::limits::ARGUMENTS_MAX);
    assert_eq!(rule::NEEDS_MAX, host::base::limits::RESOURCES_MAX);
}
