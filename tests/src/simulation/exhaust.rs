//! Small systems, exhaustively: every fault, and every pair of faults, at each call of one event with one duplicate.
//!
//! A history's id is its seed; or `SOURCE:CALL=FATE[,CALL=FATE]` with the number of the call and of the fate; or `DESIGN:SEED` for
//! one that tempts a wrong design.

use std::collections::BTreeMap;

use super::{
    director::FATES,
    plan::{Plan, SOURCES},
    play,
    wrong::Wrong,
};

/// Calls that one event with one duplicate takes when nothing goes wrong.
pub fn calls_of(source: &'static str) -> u64 {
    play(&Plan::small(source), false).calls
}

/// Every fault at every call.
pub fn singles(source: &'static str) -> impl Iterator<Item = (String, Plan)> + Send {
    let calls = calls_of(source);
    (0..calls).flat_map(move |call| (0..FATES.len()).map(move |fate| with(source, &[(call, fate)])))
}

/// Every pair of faults: the second at each call that the history with the first has after it.
pub fn pairs(source: &'static str) -> impl Iterator<Item = (String, Plan)> + Send {
    let calls = calls_of(source);
    (0..calls).flat_map(move |call| {
        (0..FATES.len()).flat_map(move |fate| {
            let (_, first) = with(source, &[(call, fate)]);
            let calls = play(&first, false).calls.min(call + PAIR_REACH);
            (call + 1..calls)
                .flat_map(move |second| (0..FATES.len()).map(move |other| with(source, &[(call, fate), (second, other)])))
        })
    })
}

/// How many calls after the first fault of a pair the second one comes at the latest.
const PAIR_REACH: u64 = 40;

fn with(source: &'static str, faults: &[(u64, usize)]) -> (String, Plan) {
    let mut plan = Plan::small(source);
    plan.faults.at = faults.iter().map(|(call, fate)| (*call, FATES[*fate])).collect();
    let words: Vec<String> = faults.iter().map(|(call, fate)| format!("{call}={fate}")).collect();
    (format!("{source}:{}", words.join(",")), plan)
}

/// The plan of an id.
pub fn plan_of(id: &str) -> Option<Plan> {
    let Some((source, faults)) = id.split_once(':') else { return id.parse().ok().map(Plan::random) };
    if let Some(wrong) = Wrong::ALL.into_iter().find(|wrong| wrong.name() == source) {
        return faults.parse().ok().map(|seed| Plan::tempting(wrong, seed));
    }
    let source = SOURCES.into_iter().find(|known| *known == source)?;
    let mut at = BTreeMap::new();
    for fault in faults.split(',').filter(|fault| !fault.is_empty()) {
        let (call, fate) = fault.split_once('=')?;
        at.insert(call.parse().ok()?, *FATES.get(fate.parse::<usize>().ok()?)?);
    }
    let mut plan = Plan::small(source);
    plan.faults.at = at;
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_plan() {
        let (id, plan) = with("github", &[(3, 1), (7, 9)]);
        assert_eq!(id, "github:3=1,7=9");
        assert_eq!(plan_of(&id).unwrap().faults, plan.faults);
        assert_eq!(plan_of("12").unwrap().webhooks, Plan::random(12).webhooks);
        for nothing in ["", "nobody:1=1", "github:1", "github:1=99", "x"] {
            assert!(plan_of(nothing).is_none(), "{nothing}");
        }
    }
}
