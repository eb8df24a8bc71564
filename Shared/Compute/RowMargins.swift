/// Rows at the top and bottom of a frame that stand in for the neighbours' rows: convolutions read them, others compute
/// them.
package struct RowMargins: Sendable, Hashable {
    package let top: Int
    package let bottom: Int

    /// The frame is the whole image.
    package static let none = RowMargins(top: 0, bottom: 0)

    package init(top: Int, bottom: Int) {
        self.top = top
        self.bottom = bottom
    }

    /// Rows of both.
    package var count: Int { top + bottom }
}

/// Where the rows of a frame lie in an image.
package struct ImageRows: Sendable, Hashable {
    /// The row of the image that the frame's first one is.
    package let first: Int
    /// Rows of the image.
    package let height: Int

    package init(first: Int, height: Int) {
        self.first = first
        self.height = height
    }
}
