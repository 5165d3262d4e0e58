//! What only the embedded store promises: what it finds when it opens, and what it survives.

mod accept_loss;
mod child;
mod damage;
mod disk;
mod import;
mod kill;
mod lag;
mod opening;
mod tools;
