//! The testkit's own tests: tools that lie make every other test worthless.

mod asking;
mod mock_model;
mod mock_model_requests;
mod openai;
