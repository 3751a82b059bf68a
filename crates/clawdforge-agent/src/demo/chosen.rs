//! What can be chosen for a conversation with the demo agent: its model, its effort, its mode.

use serde_json::{Value, json};

/// How hard it can be told to think; not as hard as the wire can ask for.
const EFFORTS: [&str; 3] = ["low", "medium", "high"];

/// The modes it can be in, which change nothing: it asks when it is told to.
const MODES: [&str; 2] = ["default", "plan"];

/// What was chosen for one conversation.
#[derive(Default)]
pub(super) struct Chosen {
    pub(super) model: Option<String>,
    pub(super) effort: Option<String>,
    pub(super) mode: Option<String>,
}

impl Chosen {
    /// Takes a value of an option; false where there is no such option or value.
    pub(super) fn set(&mut self, option: &str, value: &str) -> bool {
        let (chosen, is_known) = match option {
            "model" => (&mut self.model, value != "no-such-model"),
            "effort" => (&mut self.effort, EFFORTS.contains(&value)),
            "mode" => (&mut self.mode, MODES.contains(&value)),
            _ => return false,
        };
        if is_known {
            *chosen = Some(value.to_owned());
        }
        is_known
    }

    /// What there is to choose from, as the answer to a session's beginning tells it. An agent of the time before there
    /// were options for it tells its modes apart.
    pub(super) fn offered(&self, tells_modes_apart: bool) -> Value {
        let mode = self.mode.as_deref().unwrap_or("default");
        let mut options = self.options();
        if tells_modes_apart {
            options.pop();
            let modes = MODES.map(|mode| json!({"id": mode, "name": mode}));
            return json!({"configOptions": options, "modes": {"currentModeId": mode, "availableModes": modes}});
        }
        json!({ "configOptions": options })
    }

    fn options(&self) -> Vec<Value> {
        let of =
            |values: &[&str]| values.iter().map(|value| json!({"value": value, "name": value})).collect::<Vec<_>>();
        let option = |id: &str, category: &str, now: &Option<String>, default: &str, values: &[&str]| {
            let now = now.as_deref().unwrap_or(default);
            json!({"id": id, "name": id, "category": category, "type": "select", "currentValue": now, "options": of(values)})
        };
        vec![
            option("model", "model", &self.model, "demo", &["demo"]),
            option("effort", "thought_level", &self.effort, "medium", &EFFORTS),
            option("mode", "mode", &self.mode, "default", &MODES),
        ]
    }
}
