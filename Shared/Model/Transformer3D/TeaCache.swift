/// What TeaCache decides from the schedule. For CogVideoX the indicator is the time embedding, which depends on the
/// timestep alone: the decision is one for all prompts and known before the first step.
enum TeaCache {
    /// Whether each step leaves out the block stack; the first and the last never do.
    static func plan(embeddings: [[Float]], coefficients: [Double], threshold: Double) -> [Bool] {
        var accumulated = 0.0
        return embeddings.indices.map { step in
            guard step > 0, step < embeddings.count - 1 else {
                accumulated = 0
                return false
            }
            let change = relativeChange(embeddings[step], from: embeddings[step - 1])
            accumulated += coefficients.reduce(0) { $0 * change + $1 }
            if accumulated < threshold { return true }
            accumulated = 0
            return false
        }
    }

    private static func relativeChange(_ values: [Float], from before: [Float]) -> Double {
        let difference = zip(values, before).reduce(0.0) { $0 + Double(abs($1.0 - $1.1)) }
        return difference / before.reduce(0.0) { $0 + Double(abs($1)) }
    }
}
