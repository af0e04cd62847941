//! Small systems, exhaustively: every fault, and every pair of faults, at each call of one event and what comes after it.
//!
//! A history's id is its seed; or `SYSTEM:CALL=FATE[,CALL=FATE]` with the number of the call and of the fate; or `DESIGN:SEED` for
//! one that tempts a wrong design.

use std::collections::BTreeMap;

use super::{
    director::{FATES, Kind},
    plan::{Plan, Small},
    play,
    wrong::Wrong,
};

/// What the calls do that a system takes when nothing goes wrong.
pub fn calls_of(system: Small) -> Vec<Kind> {
    play(&Plan::small(system), false).kinds
}

/// Every fault at every call.
pub fn singles(system: Small) -> impl Iterator<Item = (String, Plan)> + Send {
    faults_of(calls_of(system), 0).map(move |fault| with(system, &[fault]))
}

/// Every pair of faults: the second at each call that the history with the first has after it.
pub fn pairs(system: Small) -> impl Iterator<Item = (String, Plan)> + Send {
    faults_of(calls_of(system), 0).flat_map(move |first| {
        let (_, plan) = with(system, &[first]);
        faults_of(play(&plan, false).kinds, first.0 as usize + 1).map(move |second| with(system, &[first, second]))
    })
}

/// Every fault that each of these calls can have, from one call on: the numbers of the call and of the fate.
fn faults_of(calls: Vec<Kind>, from: usize) -> impl Iterator<Item = (u64, usize)> + Send {
    calls
        .into_iter()
        .enumerate()
        .skip(from)
        .flat_map(|(call, kind)| (0..FATES.len()).filter(move |fate| kind.can(FATES[*fate])).map(move |fate| (call as u64, fate)))
}

fn with(system: Small, faults: &[(u64, usize)]) -> (String, Plan) {
    let mut plan = Plan::small(system);
    plan.faults.at = faults.iter().map(|(call, fate)| (*call, FATES[*fate])).collect();
    let words: Vec<String> = faults.iter().map(|(call, fate)| format!("{call}={fate}")).collect();
    (format!("{system}:{}", words.join(",")), plan)
}

/// The plan of an id.
pub fn plan_of(id: &str) -> Option<Plan> {
    let Some((system, faults)) = id.split_once(':') else { return id.parse().ok().map(Plan::random) };
    if let Some(wrong) = Wrong::ALL.into_iter().find(|wrong| wrong.name() == system) {
        return faults.parse().ok().map(|seed| Plan::tempting(wrong, seed));
    }
    let system = Small::named(system)?;
    let mut at = BTreeMap::new();
    for fault in faults.split(',').filter(|fault| !fault.is_empty()) {
        let (call, fate) = fault.split_once('=')?;
        at.insert(call.parse().ok()?, *FATES.get(fate.parse::<usize>().ok()?)?);
    }
    let mut plan = Plan::small(system);
    plan.faults.at = at;
    Some(plan)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::plan::Second, *};

    #[test]
    fn every_fate_is_some_calls() {
        let all = [Kind::Read, Kind::BatchRead, Kind::Write, Kind::BatchWrite, Kind::Transaction];
        let of = |calls: &[Kind]| faults_of(calls.to_vec(), 0).map(|(_, fate)| fate).collect::<BTreeSet<_>>().len();
        assert_eq!(of(&all), FATES.len());
        assert_eq!((of(&[Kind::Read]), of(&[Kind::Write]), of(&[Kind::Transaction])), (5, 10, 11));
        assert!(faults_of(all.to_vec(), 4).all(|(call, _)| call == 4));
    }

    #[test]
    fn an_id_names_its_plan() {
        let system = Small { source: "github", second: Second::AtOnce };
        let (id, plan) = with(system, &[(3, 1), (7, 9)]);
        assert_eq!(id, "github-at-once:3=1,7=9");
        assert_eq!(plan_of(&id).unwrap().faults, plan.faults);
        assert_eq!(plan_of("12").unwrap().webhooks, Plan::random(12).webhooks);
        for nothing in ["", "nobody:1=1", "github:1=1", "github-conflict:1", "github-conflict:1=99", "x"] {
            assert!(plan_of(nothing).is_none(), "{nothing}");
        }
    }
}
