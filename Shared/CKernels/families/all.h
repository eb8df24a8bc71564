// Every family, in the order of their needs.
#include "vector.h"
#include "convert.h"
#include "elementwise.h"
#include "norm.h"
#include "group_norm.h"
#include "attention.h"
#include "table.h"
