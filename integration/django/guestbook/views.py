from django.db import transaction
from django.db.models import Count, F, Sum
from django.http import HttpResponseRedirect, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from guestbook.models import Author, Entry


@csrf_exempt
@require_POST
def write(request):
    """Writes an entry, then sends the browser to the page that must show it."""
    author, _ = Author.objects.get_or_create(name=request.POST["author"])
    entry = Entry.objects.create(author=author, text=request.POST["text"])
    return HttpResponseRedirect(f"/?from={entry.pk}")


def entries(request):
    """Reads only."""
    found = Entry.objects.select_related("author").order_by("pk").filter(pk__gte=request.GET.get("from", 0))
    return JsonResponse({"entries": [[entry.author.name, entry.text] for entry in found[:100]]})


def visits(request):
    """Reads and writes a session."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


@csrf_exempt
@require_POST
@transaction.atomic
def transfer(request):
    """Several statements that must stay on one server."""
    giver = Entry.objects.select_for_update().get(pk=request.POST["from"])
    Entry.objects.filter(pk=giver.pk).update(stars=F("stars") - 1)
    Entry.objects.filter(pk=request.POST["to"]).update(stars=F("stars") + 1)
    totals = Entry.objects.aggregate(entries=Count("pk"), stars=Sum("stars"))
    return JsonResponse(totals)
