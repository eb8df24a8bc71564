package import Failure

/// A set of CPUs by number, written as Linux writes it: `0-7,16,20-23`.
package struct CPUList: Sendable, Hashable, CustomStringConvertible {
    /// Rising and distinct.
    package let numbers: [Int]

    /// Numbers that a list may name; beyond it is a slip of the pen.
    package static let limit = 16384

    package init(_ numbers: some Sequence<Int>) {
        self.numbers = Set(numbers).sorted()
    }

    /// Reads numbers and ranges between commas; blanks around the text are ignored, and so is a number given twice.
    ///
    /// - Throws: `cpus_invalid`, which names the part that cannot be read.
    package init(parsing text: String) throws(Failure) {
        var body = Substring(text)
        while body.first?.isWhitespace == true { body.removeFirst() }
        while body.last?.isWhitespace == true { body.removeLast() }
        let parts = body.split(separator: ",", omittingEmptySubsequences: false)
        var numbers: Set<Int> = []
        for part in parts {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map(Self.number)
            guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], first <= last
            else {
                throw Failure(
                    "cpus_invalid", "\"\(String(part))\" in \"\(text)\" is neither a CPU nor a range of CPUs.",
                    field: "cpus", remedy: "Write numbers and rising ranges below \(Self.limit), such as 0-7,16.")
            }
            numbers.formUnion(first...last)
        }
        self.numbers = numbers.sorted()
    }

    package var count: Int { numbers.count }
    package var isEmpty: Bool { numbers.isEmpty }

    package func intersection(_ other: CPUList) -> CPUList {
        CPUList(Set(numbers).intersection(other.numbers))
    }

    /// The shortest form: `0-7,16,20-23`.
    package var description: String {
        var ranges: [ClosedRange<Int>] = []
        for number in numbers {
            if let last = ranges.last, last.upperBound + 1 == number {
                ranges[ranges.count - 1] = last.lowerBound...number
            } else {
                ranges.append(number...number)
            }
        }
        return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ",")
    }

    private static func number(_ digits: some StringProtocol) -> Int? {
        guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(digits), number < limit
        else {
            return nil
        }
        return number
    }
}
