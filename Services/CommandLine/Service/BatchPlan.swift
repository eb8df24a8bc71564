package import Failure
import Foundation

/// The videos of a batch: every prompt with every seed, each under a name that the same batch gives again.
package struct BatchPlan: Sendable, Hashable {
    /// One video to make.
    package struct Item: Sendable, Hashable {
        package var prompt: String
        package var seed: UInt64
        /// `0001-the-sun-rising-s42.mp4`: the prompt's number, its first words, the seed.
        package var fileName: String

        package init(prompt: String, seed: UInt64, fileName: String) {
            self.prompt = prompt
            self.seed = seed
            self.fileName = fileName
        }
    }

    package let items: [Item]

    private static let limit = 10_000
    private static let wordBytes = 40

    /// - Parameter seeds: of every prompt; nil gives each prompt its number in the file.
    ///
    /// Fails with `batch_invalid` without a prompt or with more videos than anybody means.
    package init(prompts: [String], seeds: [UInt64]?, container: String) throws(Failure) {
        let count = prompts.count * (seeds?.count ?? 1)
        guard count >= 1, count <= Self.limit else {
            throw Failure(
                "batch_invalid", "The batch has \(count) videos.", field: "prompts-file",
                remedy:
                    "Give 1 to \(Self.limit): one prompt a line; empty lines and lines that begin with # do not count.")
        }
        items = prompts.enumerated().flatMap { index, prompt in
            (seeds ?? [UInt64(index + 1)]).map { seed in
                let number = String(index + 1), zeros = String(repeating: "0", count: max(0, 4 - number.count))
                return Item(
                    prompt: prompt, seed: seed,
                    fileName: "\(zeros)\(number)-\(Self.words(of: prompt))-s\(seed).\(container)")
            }
        }
    }

    /// One prompt a line; empty lines and lines that begin with # do not count.
    package static func prompts(ofText text: String) -> [String] {
        text.split(whereSeparator: \.isNewline).map { line in
            let start = line.drop { $0.isWhitespace }
            let end = start.lastIndex { !$0.isWhitespace }
            return end.map { String(start[...$0]) } ?? ""
        }.filter { !$0.isEmpty && !$0.hasPrefix("#") }
    }

    /// `1..8`, `3,7,9` or both: `1..4,42`. Fails with `seeds_invalid`.
    package static func seeds(_ text: String) throws(Failure) -> [UInt64] {
        var seeds: [UInt64] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.components(separatedBy: "..").map { UInt64($0) }
            guard let first = ends[0], let last = ends.count == 1 ? first : ends[1], ends.count <= 2, first <= last,
                last - first < UInt64(limit), seeds.count < limit
            else {
                throw Failure(
                    "seeds_invalid", "\"\(text.prefix(80))\" is no list of seeds.", field: "seeds",
                    remedy: "Write 1..8 or 3,7,9.")
            }
            seeds += first...last
        }
        guard Set(seeds).count == seeds.count else {
            throw Failure("seeds_invalid", "A seed is named twice.", field: "seeds", remedy: "Name each once.")
        }
        return seeds
    }

    /// The prompt's first words in letters, digits and dashes.
    private static func words(of prompt: String) -> String {
        let letters = prompt.lowercased().unicodeScalars.map { scalar -> Character in
            let isPlain = ("a"..."z").contains(scalar) || ("0"..."9").contains(scalar)
            return isPlain ? Character(scalar) : "-"
        }
        let words = String(letters).split(separator: "-")
        var name = ""
        for word in words where name.utf8.count + word.utf8.count < wordBytes {
            name += (name.isEmpty ? "" : "-") + word
        }
        return name.isEmpty ? String(words.first?.prefix(wordBytes) ?? "video") : name
    }
}
