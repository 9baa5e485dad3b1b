//! A log record whose memory is used again for the next one.

use model::{LogRecord, Value};

/// A log record whose memory is used again for the next one, so that reading a request allocates nothing for each.
#[derive(Debug, Default)]
pub struct RecordSpace {
    /// Attributes from `attributes` on are those of an earlier record.
    record: LogRecord,
    attributes: usize,
    /// Attributes that the last record had more than one before.
    spare: Vec<(String, Value)>,
}

impl RecordSpace {
    /// Empties the record, but for its body, which is for the caller to set.
    pub fn clear(&mut self) -> &mut LogRecord {
        self.attributes = 0;
        let record = &mut self.record;
        record.severity_text.clear();
        record.event_name.clear();
        (record.timestamp.0, record.observed_timestamp.0) = (0, 0);
        (record.severity_number, record.dropped_attributes_count, record.flags) = (0, 0, 0);
        (record.trace_id, record.span_id) = ([0; 16], [0; 8]);
        record
    }

    /// Returns the record, whose attributes may be those of an earlier one yet.
    pub fn record_mut(&mut self) -> &mut LogRecord {
        &mut self.record
    }

    /// Returns the next attribute, with anything in it.
    pub fn next_attribute(&mut self) -> &mut (String, Value) {
        let attributes = &mut self.record.attributes;
        if attributes.len() == self.attributes {
            attributes.push(self.spare.pop().unwrap_or_default());
        }
        self.attributes += 1;
        &mut attributes[self.attributes - 1]
    }

    /// Returns the record with the attributes that it got.
    pub fn finish(&mut self) -> &LogRecord {
        let used = self.attributes.min(self.record.attributes.len());
        self.spare.extend(self.record.attributes.drain(used..));
        &self.record
    }
}

/// Makes `value` this text, in the memory of the text that it is already.
pub fn set_text(value: &mut Value, text: &str) {
    match value {
        Value::Str(have) => {
            have.clear();
            have.push_str(text);
        }
        other => *other = Value::Str(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_record_is_left_in_the_next_one() {
        let mut space = RecordSpace::default();
        for attributes in [3, 0, 2, 5, 1] {
            let record = space.clear();
            set_text(&mut record.body, "line");
            record.severity_text.push('x');
            record.flags = 7;
            for i in 0..attributes {
                let (name, value) = space.next_attribute();
                i.to_string().clone_into(name);
                set_text(value, &"v".repeat(i));
            }
            let expected = LogRecord {
                body: Value::from("line"),
                severity_text: "x".to_owned(),
                flags: 7,
                attributes: (0..attributes).map(|i| (i.to_string(), Value::Str("v".repeat(i)))).collect(),
                ..LogRecord::default()
            };
            assert_eq!(space.finish(), &expected);
        }
    }
}
