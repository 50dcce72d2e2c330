//! Tokens outlive the lake's process, under one name each, until they are removed.

use serin_lake::{StoredToken, TOKEN_TOLD_US};

use crate::kit::{self, DAY_US, SECOND_US, START_US};

fn token(hash: u8, name: &str, expires_us: Option<i64>) -> StoredToken {
    StoredToken {
        hash: [hash; 32],
        name: name.to_owned(),
        created_us: START_US,
        expires_us,
    }
}

#[test]
fn a_token_is_kept_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, _) = kit::open(&options);
    let (probe, ci) = (
        token(1, "probe", None),
        token(2, "ci", Some(START_US + DAY_US)),
    );
    assert!(lake.store_token(&probe).unwrap());
    assert!(lake.store_token(&ci).unwrap());
    drop(lake);
    let (lake, _) = kit::open(&options);
    assert_eq!(lake.tokens().unwrap(), [ci.clone(), probe]);
    assert!(lake.remove_token("probe").unwrap());
    assert!(!lake.remove_token("probe").unwrap(), "it was there once");
    drop(lake);
    let (lake, _) = kit::open(&options);
    assert_eq!(lake.tokens().unwrap(), [ci]);
}

#[test]
fn a_name_is_free_again_once_its_token_is_past_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(dir.path()));
    let expires_us = START_US + SECOND_US;
    assert!(lake.store_token(&token(1, "ci", Some(expires_us))).unwrap());
    assert!(lake.store_token(&token(9, "probe", None)).unwrap());
    let mut second = token(2, "ci", None);
    second.created_us = expires_us - 1;
    assert!(!lake.store_token(&second).unwrap(), "it is good still");
    second.created_us = expires_us;
    assert!(lake.store_token(&second).unwrap());
    let third = StoredToken {
        created_us: expires_us + DAY_US,
        ..token(3, "ci", None)
    };
    assert!(!lake.store_token(&third).unwrap(), "it is good for ever");
    let kept = lake.tokens().unwrap();
    assert_eq!(kept, [second, token(9, "probe", None)]);
}

#[test]
fn one_that_is_long_past_its_time_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, _) = kit::open(&kit::options(dir.path()));
    lake.commit(kit::flush(1, "order.paid", 0, 10)).unwrap();
    let told_us = START_US - TOKEN_TOLD_US;
    lake.store_token(&token(1, "told", Some(told_us + DAY_US)))
        .unwrap();
    lake.store_token(&token(2, "gone", Some(told_us))).unwrap();
    lake.store_token(&token(3, "good", None)).unwrap();
    lake.expire(START_US + SECOND_US).unwrap();
    let kept = lake.tokens().unwrap();
    let names: Vec<&str> = kept.iter().map(|token| token.name.as_str()).collect();
    assert_eq!(names, ["good", "told"]);
}
