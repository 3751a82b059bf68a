//! Tests with real agent programs in front of the mock model.
