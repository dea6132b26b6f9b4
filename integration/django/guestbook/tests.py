"""Django's own test runner: it creates and drops a database, and wraps tests in transactions."""

from django.db import connection, transaction
from django.db.utils import IntegrityError
from django.test import TestCase, TransactionTestCase
from guestbook.models import Author, Entry


class InTransactions(TestCase):
    def test_write_then_read(self):
        answer = self.client.post("/write", {"author": "a", "text": "b"}, follow=True)
        self.assertEqual(answer.json(), {"entries": [["a", "b"]]})

    def test_savepoints(self):
        Author.objects.create(name="one")
        with self.assertRaises(IntegrityError), transaction.atomic():
            Author.objects.create(name="one")
        self.assertEqual(Author.objects.count(), 1)

    def test_json_and_server_side_cursor(self):
        author = Author.objects.create(name="many")
        Entry.objects.bulk_create(Entry(author=author, text=str(i), details={"n": i}) for i in range(500))
        self.assertEqual(Entry.objects.filter(details__n__gt=400).count(), 99)
        self.assertEqual(sum(entry.details["n"] for entry in Entry.objects.iterator(50)), 124750)


class Committed(TransactionTestCase):
    def test_iterator_outside_a_transaction(self):
        author = Author.objects.create(name="held")
        Entry.objects.bulk_create(Entry(author=author, text=str(i)) for i in range(300))
        entries = Entry.objects.iterator(20)
        total = int(next(entries).text)
        # Django uses a cursor WITH HOLD here; other statements go on beside it.
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_cursors WHERE is_holdable")
            self.assertEqual(cursor.fetchone(), (1,))
        for entry in entries:
            total += int(entry.text)
            Entry.objects.filter(pk=entry.pk).update(stars=1)
        self.assertEqual(total, 44850)
        self.assertEqual(Entry.objects.filter(stars=1).count(), 299)

    def test_raw_settings(self):
        with connection.cursor() as cursor:
            cursor.execute("SHOW timezone")
            self.assertEqual(cursor.fetchone(), ("UTC",))
