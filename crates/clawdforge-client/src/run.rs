//! Reading the answer of a run.

use std::borrow::Cow;

use clawdforge_api::legacy::RunReply;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Two ways to look at the answer of a [`RunReply`].
pub trait RunReplyExt {
    /// The answer as a type of the caller's.
    ///
    /// # Errors
    /// When the answer has another shape; an answer that was no JSON at all is a string.
    fn as_json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error>;

    /// The answer as text: a string as it is, anything else as JSON.
    fn as_text(&self) -> Cow<'_, str>;
}

impl RunReplyExt for RunReply {
    fn as_json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.result)
    }

    fn as_text(&self) -> Cow<'_, str> {
        match &self.result {
            Value::String(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn reply(result: Value) -> RunReply {
        RunReply { ok: true, result, duration_ms: 1, stop_reason: None }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Amount {
        qty: u32,
        unit: String,
    }

    #[test]
    fn an_answer_can_be_read_as_a_type() {
        let amount: Amount = reply(json!({"qty": 2, "unit": "cup"})).as_json().unwrap();
        assert_eq!(amount, Amount { qty: 2, unit: "cup".to_owned() });
        assert!(reply(json!("two cups")).as_json::<Amount>().is_err());
    }

    #[test]
    fn an_answer_can_be_read_as_text() {
        assert_eq!(reply(json!("two\ncups")).as_text(), "two\ncups");
        assert_eq!(reply(json!(42)).as_text(), "42");
        assert_eq!(reply(json!({"a": [1, null]})).as_text(), r#"{"a":[1,null]}"#);
    }
}
