package import Failure

/// One part of a form.
package struct FormPart: Sendable, Hashable {
    package enum Content: Sendable, Hashable {
        case text(String)
        /// The bytes of a part that has a file name.
        case file([UInt8])
    }

    package var name: String
    package var content: Content

    package init(name: String, content: Content) {
        self.name = name
        self.content = content
    }
}

/// The parts of a `multipart/form-data` body (RFC 7578).
package enum MultipartForm {
    /// The parts in their order; one whose disposition names a file is a file. Errors: `form_malformed`.
    package static func parts(_ body: [UInt8], boundary: String) throws(Failure) -> [FormPart] {
        let marker = Array("--\(boundary)".utf8)
        guard !boundary.isEmpty, boundary.utf8.count <= 70, var position = find(marker, in: body, from: 0) else {
            throw malformed("there is no part between its boundaries")
        }
        var parts: [FormPart] = []
        let separator = Array("\r\n".utf8) + marker
        while true {
            position += marker.count
            if body[position...].starts(with: "--".utf8) { return parts }
            guard body[position...].starts(with: "\r\n".utf8) else { throw malformed("a boundary has no line end") }
            position += 2
            guard let end = find(separator, in: body, from: max(0, position - 2)) else {
                throw malformed("the last boundary is missing")
            }
            parts.append(try part(body[position..<max(position, end)]))
            position = end + 2
        }
    }

    private static func part(_ part: ArraySlice<UInt8>) throws(Failure) -> FormPart {
        let bytes = Array(part)
        let blank = Array("\r\n\r\n".utf8)
        guard let split = find(blank, in: bytes, from: 0) else { throw malformed("a part has no headers") }
        guard let headers = String(validating: bytes[..<split], as: UTF8.self) else {
            throw malformed("a part's headers are not UTF-8 text")
        }
        let disposition = headers.split(separator: "\r\n").first {
            $0.lowercased().hasPrefix("content-disposition:")
        }
        guard let disposition, let name = HeaderParameters.value("name", in: String(disposition)) else {
            throw malformed("a part has no name")
        }
        let content = bytes[(split + blank.count)...]
        if HeaderParameters.value("filename", in: String(disposition)) != nil {
            return FormPart(name: name, content: .file(Array(content)))
        }
        guard let value = String(validating: content, as: UTF8.self) else {
            throw malformed("a part is not UTF-8 text")
        }
        return FormPart(name: name, content: .text(value))
    }

    private static func malformed(_ reason: String) -> Failure {
        Failure("form_malformed", "The form cannot be read: \(reason).", remedy: "Send multipart/form-data or JSON.")
    }

    private static func find(_ pattern: [UInt8], in bytes: [UInt8], from start: Int) -> Int? {
        guard bytes.count >= pattern.count else { return nil }
        var index = start
        while index <= bytes.count - pattern.count {
            if bytes[index] == pattern[0], bytes[index...].starts(with: pattern) { return index }
            index += 1
        }
        return nil
    }
}

/// Parameters of a header value: `form-data; name="prompt"`.
package enum HeaderParameters {
    /// The value of `name`, unquoted; nil when the header has no such parameter.
    package static func value(_ name: String, in header: String) -> String? {
        for parameter in split(header).dropFirst() {
            guard let equals = parameter.firstIndex(of: "=") else { continue }
            let key = trimmed(parameter[..<equals]).lowercased()
            guard key == name else { continue }
            return unquoted(trimmed(parameter[parameter.index(after: equals)...]))
        }
        return nil
    }

    /// Splits at semicolons outside quotes.
    private static func split(_ header: String) -> [String] {
        var parts = [""]
        var isQuoted = false
        var isEscaped = false
        for character in header {
            if character == "\"", !isEscaped { isQuoted.toggle() }
            isEscaped = character == "\\" && isQuoted && !isEscaped
            if character == ";" && !isQuoted {
                parts.append("")
            } else {
                parts[parts.count - 1].append(character)
            }
        }
        return parts
    }

    private static func trimmed(_ text: Substring) -> String {
        let start = text.drop { $0 == " " || $0 == "\t" }
        let end = start.lastIndex { $0 != " " && $0 != "\t" }
        return end.map { String(start[...$0]) } ?? ""
    }

    private static func unquoted(_ text: String) -> String {
        guard text.count >= 2, text.first == "\"", text.last == "\"" else { return text }
        var result = ""
        var isEscaped = false
        for character in text.dropFirst().dropLast() {
            if character == "\\" && !isEscaped {
                isEscaped = true
            } else {
                result.append(character)
                isEscaped = false
            }
        }
        return result
    }
}
