package import Failure
import Foundation
import Request

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

    /// - Parameters:
    ///   - seeds: of every prompt; nil gives each prompt its number in the file.
    ///   - title: what names begin with instead of the prompt, where that is written only later.
    ///
    /// Fails with `batch_invalid` without a prompt or with more videos than anybody means.
    package init(prompts: [String], seeds: [UInt64]?, container: String, title: String? = nil) throws(Failure) {
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
                let name = VideoName.of(prompt: title ?? prompt, seed: seed, container: container)
                return Item(prompt: prompt, seed: seed, fileName: "\(zeros)\(number)-\(name)")
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

    /// So many seeds from one on. Fails with `seeds_invalid`.
    package static func seeds(count: Int, from first: UInt64) throws(Failure) -> [UInt64] {
        let (last, overflow) = first.addingReportingOverflow(UInt64(max(1, count)) - 1)
        guard (1...limit).contains(count), !overflow else {
            throw Failure(
                "seeds_invalid", "\(count) videos from seed \(first) on cannot be made.", field: "num-videos",
                remedy: "Use 1 to \(limit).")
        }
        return Array(first...last)
    }
}
