//! What people ask for once, by annotation of the object.

use serde_json::{Value, json};

use super::passes::{Operator, serving, status};
use super::sets::{Around, edit};

const LEAD: &str = "quorate.dev/transfer-leader";

fn ask(around: &Around, annotation: &str, words: &str) {
    edit(
        around,
        &json!({"metadata": {"annotations": {annotation: words}}}),
    );
}

fn annotation(around: &Around, annotation: &str) -> Value {
    let object = around.api.store().all("kvclusters")["orders"].clone();
    object["metadata"]["annotations"][annotation].clone()
}

fn leader_slot(around: &Around) -> u8 {
    let group = around.group();
    group.members[&group.leader].0
}

#[tokio::test]
async fn p38_leadership_moves_once_however_often_the_same_words_are_applied() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let to = (leader_slot(&around) + 1) % 3;
    let words = format!("to={to},token=monday");
    ask(&around, LEAD, &words);
    operator.converged().await;
    assert_eq!(leader_slot(&around), to);
    assert_eq!(annotation(&around, LEAD), Value::Null);
    let past = status(&around).last_requests;
    assert_eq!(past.len(), 1);
    assert_eq!((past[0].request.as_str(), &past[0].token), (LEAD, &words));
    assert!(past[0].result.contains("leads"), "{:?}", past[0]);

    // Leadership has moved on, and the same manifest is applied again.
    let other = (to + 1) % 3;
    {
        let mut group = around.group();
        let member = group.members.iter().find(|(_, row)| row.0 == other);
        group.leader = *member.expect("a member in every slot").0;
    }
    ask(&around, LEAD, &words);
    Operator::new(&around).converged().await;
    assert_eq!(leader_slot(&around), other, "it was carried out again");
    assert_eq!(annotation(&around, LEAD), Value::Null);
    assert_eq!(status(&around).last_requests.len(), 1);
}
