"""Read and write access to what a namespace owns and may keep private: buckets and repositories."""

from service.local.hub_emulator.users import LocalUser, Namespace, Permission


class AccessControlled:
    """Base of what is public or private to its owner's namespace."""

    __slots__ = ()

    owner: Namespace
    private: bool

    def is_readable_by(self, user: LocalUser | None) -> bool:
        """Say whether a user may see the content; None is a caller without a token."""
        if not self.private:
            return True
        return (
            user is not None
            and self._is_reachable_by(user)
            and user.has_permission(Permission.READ_REPOS)
        )

    def is_writable_by(self, user: LocalUser) -> bool:
        """Say whether a user may change the content."""
        return self._is_reachable_by(user) and user.has_permission(Permission.WRITE_REPOS)

    def _is_reachable_by(self, user: LocalUser) -> bool:
        return user.find_namespace(self.owner.name) is not None
