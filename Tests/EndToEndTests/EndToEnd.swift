import Testing

/// Everything that starts processes: one test at a time, because each one uses all cores and some measure time.
@Suite("End to end", .serialized)
enum EndToEnd {
    /// The first prompt of the README.
    static let prompt = "the sun rising over green hills"

    /// Flags of a short job on the demo model, whose result is lossless.
    static let small = ["--num-inference-steps", "5", "--num-frames", "9", "--seed", "7"]
}
