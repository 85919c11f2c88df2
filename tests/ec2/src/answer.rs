//! Answers as XML: EC2's envelopes, and elements within. Written by hand, since it takes less than it would to
//! tell a library of XML what we want.

use std::fmt::Display;

use jiff::Timestamp;

use crate::error::Ec2Error;

/// The namespace of API version 2016-11-15.
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Elements, in the order in which they were written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Xml(String);

impl Xml {
    /// An element with a text.
    pub(crate) fn text(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.within(name, |xml| xml.bare(value))
    }

    /// An element with a time, to the millisecond as EC2 has it.
    pub(crate) fn time(&mut self, name: &str, time: Timestamp) -> &mut Self {
        self.text(name, time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }

    /// An element with a text, if there is one.
    pub(crate) fn optional(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A text without an element of its own: an item of a list of texts.
    pub(crate) fn bare(&mut self, value: impl Display) {
        self.0 += &escape(&value.to_string());
    }

    /// An element with what `content` writes.
    pub(crate) fn within(&mut self, name: &str, content: impl FnOnce(&mut Self)) -> &mut Self {
        self.0 += &format!("<{name}>");
        content(self);
        self.0 += &format!("</{name}>");
        self
    }

    /// A list: in `name`, an `item` for each of `items`.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) -> &mut Self {
        self.within(name, |xml| {
            for item in items {
                xml.within("item", |xml| write(xml, item));
            }
        })
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\r' => escaped += "&#13;",
            other => escaped.push(other),
        }
    }
    escaped
}

/// The document that answers a call of `operation`.
pub(crate) fn success(operation: &str, request_id: &str, content: &Xml) -> String {
    let name = format!("{operation}Response");
    let mut xml = Xml::default();
    xml.text("requestId", request_id);
    format!(
        "{DECLARATION}<{name} xmlns=\"{NAMESPACE}\">{}{}</{name}>",
        xml.0, content.0
    )
}

/// The document that says why a call failed.
pub(crate) fn failure(request_id: &str, error: &Ec2Error) -> String {
    let mut xml = Xml::default();
    xml.within("Response", |xml| {
        xml.within("Errors", |xml| {
            xml.within("Error", |xml| {
                xml.text("Code", &error.code)
                    .text("Message", &error.message);
            });
        });
        xml.text("RequestID", request_id);
    });
    format!("{DECLARATION}{}", xml.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_in_the_namespace_and_escaped() {
        let mut content = Xml::default();
        content
            .text("description", "a<b & \"c\"")
            .optional("none", None::<u8>)
            .time("attachTime", Timestamp::UNIX_EPOCH)
            .list("groupSet", ["sg-1", "sg-2"], |xml, id| {
                xml.text("groupId", id);
            })
            .list("tagSet", [""; 0], |_, _| {});
        assert_eq!(
            success("DescribeThings", "r-1", &content),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <DescribeThingsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r-1</requestId>\
             <description>a&lt;b &amp; &quot;c&quot;</description>\
             <attachTime>1970-01-01T00:00:00.000Z</attachTime>\
             <groupSet><item><groupId>sg-1</groupId></item><item><groupId>sg-2</groupId></item></groupSet>\
             <tagSet></tagSet></DescribeThingsResponse>"
        );
    }

    #[test]
    fn an_error_is_as_botocore_reads_it() {
        let error = Ec2Error::missing("SubnetId");
        assert_eq!(
            failure("r-1", &error),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>MissingParameter</Code>\
             <Message>The request must contain the parameter SubnetId</Message></Error></Errors>\
             <RequestID>r-1</RequestID></Response>"
        );
        assert_eq!(error.status(), 400);
    }
}
