package import Failure

/// The name of a broker among several, and the mark that it leaves in the ids of its jobs.
///
/// A job belongs to one cell for life, so its id must lead there without a directory that could be lost: the first eight
/// of its 32 digits are the beginning of the SHA-256 of the cell's name.
package struct CellName: Sendable, Hashable, CustomStringConvertible {
    package static let jobPrefix = "video_"
    private static let tagDigits = 8

    package let text: String

    /// - Throws: `cell_name_invalid` for anything but 1 to 32 lower-case letters, digits and inner hyphens.
    package init(_ text: String) throws(Failure) {
        let isPlain = text.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
        }
        guard isPlain, (1...Limits.cellBytes).contains(text.utf8.count), !text.hasPrefix("-"), !text.hasSuffix("-")
        else {
            throw Failure(
                "cell_name_invalid", "\"\(text.prefix(80))\" is no name for a cell", field: "cell",
                remedy: "Use 1 to \(Limits.cellBytes) lower-case letters, digits and hyphens, such as hall-2.")
        }
        self.text = text
    }

    package var description: String { text }

    /// Eight hexadecimal digits.
    package var tag: String { Self.tag(of: text) }

    /// The mark of the cell called `name`.
    package static func tag(of name: String) -> String {
        String(Digest.of(Array("zoetrope cell \(name)".utf8)).description.prefix(tagDigits))
    }

    /// The mark in a job's id; nil for an id of another form. Jobs from before there were cells have random digits there.
    package static func tag(ofJob job: String) -> String? {
        guard job.hasPrefix(jobPrefix) else { return nil }
        let digits = job.dropFirst(jobPrefix.count)
        guard digits.count == 32, digits.allSatisfy(\.isHexDigit) else { return nil }
        return String(digits.prefix(tagDigits))
    }

    /// An id for a new job of this cell: 96 random bits after the mark.
    package func newJob() -> String {
        Self.jobPrefix + tag + SessionID.random().description.prefix(32 - Self.tagDigits)
    }
}
