//! From rows to the JSON of Concourse's API: members, their order, and what is left out when empty.
