package import Compute

/// How the rows of an image are divided between the members of one decode.
///
/// A member computes the rows `rows[member]` of the latents and what they are enlarged to: `· 2` at every level, so that
/// borders stay where they are. Of each neighbour it reads one row more at every convolution.
package struct SlabPlan: Sendable, Hashable {
    /// Rows of the latents.
    package let height: Int
    /// Of each member, from the top of the image on.
    package let rows: [Range<Int>]

    /// Rows of a neighbour that a convolution of 3×3 reads.
    static let margin = 1

    /// Divides `height` rows into slabs of nearly equal height, the first ones higher by a row where they differ.
    ///
    /// - Parameter members: at least 1; no more slabs are made than there are rows.
    package init(height: Int, members: Int) {
        precondition(height > 0 && members > 0, "\(height) rows for \(members) members")
        self.height = height
        let count = min(members, height)
        rows = (0..<count).map { member in
            let first = member * (height / count) + min(member, height % count)
            return first..<first + height / count + (member < height % count ? 1 : 0)
        }
    }

    /// Members that have rows.
    package var count: Int { rows.count }

    /// The most rows that a member has.
    package var largest: Int { rows.reduce(0) { max($0, $1.count) } }

    /// What a member's frames have of its neighbours: nothing where the image ends.
    package func margins(of member: Int) -> RowMargins {
        RowMargins(
            top: member == 0 ? 0 : Self.margin, bottom: member == rows.count - 1 ? 0 : Self.margin)
    }
}
