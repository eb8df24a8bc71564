/// Frames per second as a fraction, such as 8/1 or 30000/1001.
package struct FrameRate: Sendable, Hashable, CustomStringConvertible {
    package let numerator: Int32
    package let denominator: Int32

    /// Nil unless both are positive.
    package init?(numerator: Int, denominator: Int = 1) {
        guard let top = Int32(exactly: numerator), let bottom = Int32(exactly: denominator), top > 0, bottom > 0 else {
            return nil
        }
        self.numerator = top
        self.denominator = bottom
    }

    package var framesPerSecond: Double { Double(numerator) / Double(denominator) }

    package var description: String { denominator == 1 ? "\(numerator)" : "\(numerator)/\(denominator)" }
}
