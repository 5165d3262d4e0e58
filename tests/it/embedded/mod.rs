//! What only the embedded store promises: what it finds when it opens, and what it survives.

mod accept_loss;
mod backup;
mod damage;
mod golden;
mod opening;
mod tools;
mod waiting;
