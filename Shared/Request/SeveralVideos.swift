package import Failure
import Wire

/// Several videos of one request: the same in everything but their seeds, which follow one another. The same concept as
/// a batch's `--seeds`.
package struct SeveralVideos: Sendable {
    package let count: Int

    /// Nil for a request that does not say how many: it makes one and is answered as one.
    ///
    /// Fails with `n_out_of_range`, and with `fields_conflict` for noise that would make all of them alike.
    package init?(_ draft: RequestDraft) throws(Failure) {
        guard let count = draft.count else { return nil }
        guard RequestLimits.videos.contains(count) else {
            throw Failure(
                "n_out_of_range", "n is \(count).", field: "n",
                remedy: "Use \(RequestLimits.videos.lowerBound) to \(RequestLimits.videos.upperBound).")
        }
        guard count == 1 || draft.initialLatents == nil else {
            throw Failure(
                "fields_conflict", "n is given together with init_latents, which would make all videos alike.",
                field: "n", remedy: "Leave one of them out.")
        }
        self.count = count
    }

    /// Its requests: seed, seed + 1, and so on. Fails with `seed_out_of_range` beyond the last seed.
    package func requests(_ first: GenerationRequest) throws(Failure) -> [GenerationRequest] {
        let (last, overflow) = first.seed.addingReportingOverflow(UInt64(count - 1))
        guard !overflow else {
            throw Failure(
                "seed_out_of_range", "seed is \(first.seed), and \(count) videos need as many seeds from there on.",
                field: "seed", remedy: "Use a smaller one.")
        }
        return (first.seed...last).map { seed in
            var request = first
            request.seed = seed
            return request
        }
    }

    /// What tells one of its videos from another, and from a single video, in the request's digest.
    package func variant(_ index: Int) -> String? { count == 1 ? nil : "\(index + 1) of \(count)" }

    /// The idempotency key of one of its videos: the first has the user's, so that the key belongs to one request.
    package func key(_ key: String, _ index: Int) -> String {
        key.isEmpty || index == 0 ? key : Digest.of(Array("zoetrope video \(index + 1)\n\(key)".utf8)).description
    }
}

/// Names of video files that follow from what is in them.
package enum VideoName {
    /// Bytes of the prompt in a name.
    private static let wordBytes = 40

    /// `the-sun-rising-over-green-hills-s7.mp4`.
    package static func of(prompt: String, seed: UInt64, container: String) -> String {
        "\(words(of: prompt))-s\(seed).\(container)"
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
