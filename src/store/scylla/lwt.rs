//! The answer to a conditional write.
//!
//! ScyllaDB answers with `[applied]` and the columns of the row as it was before, always; Cassandra with `[applied]`
//! alone where it was applied. So columns are found by their names, and only when `[applied]` is false do the others
//! mean anything.

use scylla::{
    deserialize::{
        DeserializationError, TypeCheckError,
        row::{ColumnIterator, DeserializeRow},
        value::DeserializeValue,
    },
    frame::response::result::ColumnSpec,
    response::query_result::QueryResult,
    value::CqlValue,
};
use uuid::Uuid;

use super::{
    error::Failed,
    failpoint::{Breach, breaks},
};

/// What became of a conditional write.
#[derive(Debug)]
pub enum Decision {
    /// It was carried out.
    Applied,
    /// The condition did not hold for this row.
    Refused(Row),
}

/// A row of a conditional write's answer, or of one whose columns are wanted by name.
pub struct Row(Vec<(Box<str>, Option<CqlValue>)>);

const APPLIED: &str = "[applied]";

impl Decision {
    /// Reads the answer to a conditional write.
    ///
    /// # Errors
    /// [`super::error::Fate::Bug`] where it is none.
    pub fn read(result: QueryResult) -> Result<Self, Failed> {
        let rows = match result.into_rows_result() {
            Ok(rows) => rows,
            // Without its condition it is a plain write, which is answered with nothing.
            Err(_) if breaks(Breach::NoCondition) => return Ok(Decision::Applied),
            Err(_) => return Err(Failed::malformed("a conditional write was not answered")),
        };
        // `first_row` and not `single_row`: more rows come for batches only, and each has the same `[applied]`.
        let row = rows.first_row::<Row>().map_err(|error| Failed::malformed(error.to_string()))?;
        match row.value(APPLIED) {
            Some(CqlValue::Boolean(true)) => Ok(Decision::Applied),
            Some(CqlValue::Boolean(false)) => Ok(Decision::Refused(row)),
            _ => Err(Failed::malformed("the answer to a conditional write does not say whether it was applied")),
        }
    }
}

impl Row {
    fn value(&self, name: &str) -> Option<&CqlValue> {
        self.0.iter().find(|(column, _)| **column == *name).and_then(|(_, value)| value.as_ref())
    }

    /// A column of type timeuuid; `None` where it is null or missing.
    pub fn timeuuid(&self, name: &str) -> Option<Uuid> {
        self.value(name).and_then(CqlValue::as_timeuuid).map(Uuid::from)
    }

    /// A column of type bigint.
    pub fn bigint(&self, name: &str) -> Option<i64> {
        self.value(name).and_then(CqlValue::as_bigint)
    }

    /// A column of type int.
    pub fn int(&self, name: &str) -> Option<i32> {
        self.value(name).and_then(CqlValue::as_int)
    }

    /// A column of type text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(CqlValue::as_text).map(String::as_str)
    }

    /// A column of type blob.
    pub fn blob(&self, name: &str) -> Option<&[u8]> {
        self.value(name).and_then(CqlValue::as_blob).map(Vec::as_slice)
    }
}

// Names only: the values are contents.
impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl<'frame, 'metadata> DeserializeRow<'frame, 'metadata> for Row {
    fn type_check(_: &[ColumnSpec<'_>]) -> Result<(), TypeCheckError> {
        // Columns are found by name, and those of another type read as null.
        Ok(())
    }

    fn deserialize(columns: ColumnIterator<'frame, 'metadata>) -> Result<Self, DeserializationError> {
        let read = columns.map(|column| {
            let column = column?;
            let value = Option::<CqlValue>::deserialize(column.spec.typ(), column.slice)?;
            Ok((column.spec.name().into(), value))
        });
        read.collect::<Result<_, _>>().map(Row)
    }
}
