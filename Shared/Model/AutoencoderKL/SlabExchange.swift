package import Failure
package import Tensor

/// What a member of a decode says to the others and hears from them. Every member makes the same calls in the same order;
/// each waits until those have come whose word it needs.
///
/// Calls fail when the others can no longer be reached, or have ended the decode, or when this one is to stop: the
/// member's run is then over.
package protocol SlabExchange: Sendable {
    /// Gives rows to the neighbours and takes theirs.
    ///
    /// - Parameters:
    ///   - top: for the neighbour above; nil at the top of the image.
    ///   - bottom: for the neighbour below; nil at the bottom of the image.
    /// - Returns: what the neighbour above gave as its `bottom` and the one below as its `top`: of the same shapes.
    func exchange(top: Tensor?, bottom: Tensor?) throws(Failure) -> (above: Tensor?, below: Tensor?)

    /// The sums of all members' numbers, added in the order of the members, so that all get the same bits.
    func reduce(_ values: [Double]) throws(Failure) -> [Double]
}

/// A member's part in a decode that several share: its slab, and its way to the others.
package struct SlabMember: Sendable {
    package let plan: SlabPlan
    /// From 0, the top of the image, on.
    package let index: Int
    package let exchange: any SlabExchange

    package init(plan: SlabPlan, index: Int, exchange: any SlabExchange) {
        precondition(plan.rows.indices.contains(index), "member \(index) of \(plan.count)")
        self.plan = plan
        self.index = index
        self.exchange = exchange
    }
}
