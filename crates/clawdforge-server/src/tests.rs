//! The router with its layers, over a real engine.
